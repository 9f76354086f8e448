"""evaluate.py with replies of a server, which has the tiny models."""

import pytest
from conftest import read_json, read_lines
from script_runs import run_here
from server_runs import evaluate_by_server

import evaluate
from response_generator.constants import PREDICTIONS_FILE

GREEDY = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": False, "repetition_penalty": 1.2}


def evaluated_here(values: dict, folder, *options: str) -> int:
    return run_here(evaluate.main, values | {"output_dir": str(folder)}, folder.parent, *options)


def test_greedy_replies_and_log_probabilities_are_those_of_this_program(tiny, model_server, tmp_path):
    values = evaluate_by_server(tiny, tmp_path, model_server.url, generation=GREEDY)
    local = values | {"generation_method": "auto", "server": None}
    assert evaluated_here(values, tmp_path / "server") == 0
    assert evaluated_here(local, tmp_path / "local") == 0
    there, here = (read_lines(tmp_path / name / PREDICTIONS_FILE) for name in ("server", "local"))
    assert len(there) == 12
    for one, other in zip(there, here, strict=True):
        assert one["gold_logp"] == pytest.approx(other["gold_logp"], abs=1e-3)
        assert {k: v for k, v in one.items() if k != "gold_logp"} == {
            k: v for k, v in other.items() if k != "gold_logp"
        }
    print(read_json(tmp_path / "server" / "environment.json"))
