"""evaluate.py with replies of a server: beside those of this program, killed, and gone on with."""

import json
import signal

import pytest
from conftest import read_json, read_lines
from model_server import DEAD, HELD
from script_runs import run_script, start_script
from server_runs import GREEDY, evaluate_by_server, evaluated_here, start_again_when_away, wait_briefly
from test_interruptions import once

import evaluate
from response_generator.cli import command_line
from response_generator.constants import CANDIDATES_FILE, PAIR_LOGPS_FILE, PREDICTIONS_FILE

PROBED = 25  # completions of the probe at most: 4 prompts, two models, one of them twice, replies and log-probabilities


def without_logp(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.endswith("_logp")}


def test_greedy_replies_and_log_probabilities_are_those_of_this_program(tiny, model_server, tmp_path, capsys):
    pairs = {"dataset": {"path": str(tiny.folder / "pairs.jsonl"), "limit": 4}, "beta": 0.1}
    values = evaluate_by_server(tiny, tmp_path, model_server.url, generation=GREEDY, heldout_pairs=pairs)
    local = values | {"generation_method": "auto", "server": None}
    assert evaluated_here(values, tmp_path / "server") == 0
    assert evaluated_here(local, tmp_path / "local") == 0
    there, here = (read_lines(tmp_path / name / PREDICTIONS_FILE) for name in ("server", "local"))
    assert len(there) == 12 and list(map(without_logp, there)) == list(map(without_logp, here))
    assert [row["gold_logp"] for row in there] == pytest.approx([row["gold_logp"] for row in here], abs=1e-3)
    of_pairs, of_pairs_here = (
        {(row["model"], row["index"]): row for row in read_lines(tmp_path / name / PAIR_LOGPS_FILE)}
        for name in ("server", "local")
    )
    assert of_pairs.keys() == of_pairs_here.keys() and len(of_pairs) == 8
    for key, row in of_pairs.items():
        assert row["tokens"] == of_pairs_here[key]["tokens"]
        for side in ("chosen_logp", "rejected_logp"):
            assert row[side] == pytest.approx(of_pairs_here[key][side], abs=1e-3)
    assert_comparison_says_so(tmp_path, capsys)


def assert_comparison_says_so(folder, capsys) -> None:
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        runs = [str(folder / name) for name in ("server", "local")]
        patch.setattr("sys.argv", ["evaluate.py", "--compare", *runs, "--output_dir", str(folder / "both")])
        assert command_line.run_main(evaluate.main) == 0
    said = "server: a server (of the test); local: continuous batching, float32"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (folder / "both" / "report.html").read_text("utf-8")


def test_the_best_of_several_is_chosen_from_candidates_of_the_server(tiny, model_server, tmp_path):
    best_of = {"samples": 3, "scoring": {"emotion_model": str(tiny.folder / "choosing")}}
    values = evaluate_by_server(tiny, tmp_path, model_server.url, best_of=best_of, samples_per_prompt=2)
    assert evaluated_here(values, tmp_path / "run") == 0
    rows = read_lines(tmp_path / "run" / PREDICTIONS_FILE)
    names = ("baseline", "baseline best of 3", "adapter", "adapter best of 3")
    found = {(row["model"], row["index"], row["sample"]): row["response"] for row in rows}
    assert found.keys() == {(name, index, sample) for name in names for index in range(6) for sample in range(2)}
    candidates = {
        (row["model"], row["index"], row["sample"]): row["response"]
        for row in read_lines(tmp_path / "run" / CANDIDATES_FILE)
    }
    assert len(candidates) == 2 * 6 * 2 * 3
    for (name, index, sample), response in found.items():
        if name.endswith("best of 3"):
            assert response in [candidates[name, index, 3 * sample + number] for number in range(3)]
    assert {body["n"] for body in model_server.asked if "n" in body} == {1, 2, 6}


def start_until_held(values: dict, folder, model_server, answered: int):
    """Starts a run in a process of its own, whose server answers so many completions and holds all others."""
    model_server.faults.extend([None] * answered + [HELD] * 1000)
    process = start_script("evaluate.py", values, folder)
    once(lambda: len(model_server.asked) >= answered + values["server"]["concurrency"], process)
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_where_it_was(number, tiny, model_server, tmp_path):
    values = evaluate_by_server(tiny, tmp_path / "run", model_server.url)
    process = start_until_held(values, tmp_path, model_server, answered=PROBED + 9)
    file = tmp_path / "run" / PREDICTIONS_FILE
    once(lambda: file.is_file() and len(read_whole_lines(file)) >= 3, process)
    process.send_signal(number)
    assert process.wait() == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    if number == signal.SIGINT:
        assert f"interrupted: what is finished is in {file}" in process.read_stderr()
    before = read_whole_lines(file)
    assert 0 < len(before) < 12
    model_server.faults.clear()
    model_server.gate.set()
    model_server.asked.clear()
    done = run_script("evaluate.py", values, tmp_path)
    assert done.returncode == 0, done.stderr
    after = {(row["model"], row["index"]): row["response"] for row in read_lines(file)}
    assert len(after) == 12
    assert all(after[row["model"], row["index"]] == row["response"] for row in before)
    sampled = [body for body in model_server.asked if body.get("n") and body["temperature"] > 0]
    assert len(sampled) == 12 - len(before)


def read_whole_lines(file) -> list[dict]:
    text = file.read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_the_server_dies_and_comes_back(tiny, model_server, tmp_path, monkeypatch, capsys):
    wait_briefly(monkeypatch)
    start_again_when_away(model_server, monkeypatch)
    values = evaluate_by_server(tiny, tmp_path, model_server.url, generation=GREEDY)
    assert evaluated_here(values, tmp_path / "whole") == 0
    model_server.faults.extend([*[None] * 30, DEAD, None, None, DEAD])
    assert evaluated_here(values, tmp_path / "broken") == 0
    assert "answers again" in capsys.readouterr().err
    whole, broken = (read_lines(tmp_path / name / PREDICTIONS_FILE) for name in ("whole", "broken"))
    assert whole == broken


def test_a_run_with_all_replies_needs_no_server_and_may_have_another_address(tiny, model_server, tmp_path, capsys):
    values = evaluate_by_server(tiny, tmp_path, model_server.url)
    assert evaluated_here(values, tmp_path / "run") == 0
    rows = read_lines(tmp_path / "run" / PREDICTIONS_FILE)
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had ended before the replies were classified
    model_server.stop()
    moved = values | {"server": values["server"] | {"url": "http://127.0.0.1:9", "concurrency": 1}}
    assert evaluated_here(moved, tmp_path / "run") == 0
    assert read_lines(tmp_path / "run" / PREDICTIONS_FILE) == rows
    assert read_json(tmp_path / "run" / "args.json")["server"]["url"] == "http://127.0.0.1:9"
    other = values | {"server": values["server"] | {"model": "dpo"}}
    (tmp_path / "run" / "metrics.json").unlink()
    assert evaluated_here(other, tmp_path / "run") == 2
    assert "differing: server.model" in capsys.readouterr().err


def test_no_file_and_no_line_holds_the_key(tiny, model_server, tmp_path, monkeypatch, capsys):
    model_server.key = "secret-of-the-test"
    monkeypatch.setenv("KEY_OF_TEST", model_server.key)
    values = evaluate_by_server(tiny, tmp_path, model_server.url, wandb={"mode": "offline", "project": "test"})
    values["server"]["api_key_env"] = "KEY_OF_TEST"
    assert evaluated_here(values, tmp_path / "run") == 0
    said = capsys.readouterr()
    assert model_server.key not in said.out + said.err
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if model_server.key.encode() in file.read_bytes()]


def test_several_processes_are_refused(tiny, model_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    values = evaluate_by_server(tiny, tmp_path, model_server.url)
    assert evaluated_here(values, tmp_path / "run") == 2
    assert "server: got 2 processes; start one" in capsys.readouterr().err
