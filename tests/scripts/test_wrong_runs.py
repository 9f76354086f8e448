"""Whole runs of the script that used to look right and were not, in this process."""

import json
from pathlib import Path

import pytest
from conftest import read_json, write_rows
from script_runs import run_here
from tiny_models import demo_rows

import evaluate
import fine_tune_dpo
from response_generator import sft


@pytest.fixture
def values(tiny, tmp_path) -> dict:
    """A run whose data may be changed."""
    rows = write_rows(tmp_path / "pairs.jsonl", demo_rows("written_pairs_train", 12))
    return tiny.dpo(tmp_path / "run", dataset={"path": rows, "limit": 8}, eval_dataset=None)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_of_a_run_goes_where_its_path_leads(values, tmp_path, monkeypatch, capsys):
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    assert run_here(fine_tune_dpo.main, values | {"output_dir": "~/run"}, tmp_path) == 0
    run = tmp_path / "home" / "run"
    assert {"args.json", "metrics.json", "log.jsonl", "adapter", "checkpoint-2", "checkpoint-4"} <= files_in(run)
    assert files_in(tmp_path / "work") == set()
    assert read_json(run / "args.json")["output_dir"] == str(run)
    assert "dataset: 8 of 12 rows (dataset.limit)" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)  # from another place, by another name: the same run
    assert run_here(fine_tune_dpo.main, values | {"output_dir": "home/run"}, tmp_path) == 0
    assert f"{run} is finished" in capsys.readouterr().out


def test_an_unfinished_run_of_an_earlier_version_that_lacked_keys_goes_on(values, tmp_path, capsys):
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    run = tmp_path / "run"
    (run / "metrics.json").unlink()
    for file in (run / "args.json", run / "checkpoint-4" / "run.json"):
        content = read_json(file)
        arguments = content.get("arguments", content)
        del arguments["lora"], arguments["dataset"]["filters"], arguments["dataset"]["offset"]
        file.write_text(json.dumps(content), encoding="utf-8")
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    assert f"resuming from {run / 'checkpoint-4'}" in capsys.readouterr().out
    assert read_json(run / "args.json")["lora"] is None


def test_a_run_does_not_go_on_with_other_data(values, tmp_path, capsys):
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed at the very end
    rows = demo_rows("written_pairs_train", 13)
    write_rows(tmp_path / "pairs.jsonl", rows[:7] + rows[12:])
    capsys.readouterr()
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 2
    said = capsys.readouterr().err
    assert (
        "checkpoint-4: belongs to a run with other data, so this run cannot be resumed from it; name another folder"
        in said
    )
    assert not (tmp_path / "run" / "metrics.json").exists()
    write_rows(tmp_path / "pairs.jsonl", rows[:12])
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    assert f"resuming from {tmp_path / 'run' / 'checkpoint-4'}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dpo", "sft", "evaluate"])
def test_bad_rows_are_reported_together_with_what_is_missing(name, tiny, tmp_path, capsys):
    """One start is enough to see both. The training and the held-out rows have one bad row each."""
    rows = [write_rows(tmp_path / f"{split}.jsonl", [{"text": split}]) for split in ("train", "validation")]
    values = getattr(tiny, name)(tmp_path / "run", dataset={"path": rows[0]}, adapter=str(tmp_path / "absent"))
    if name == "evaluate":
        values["heldout_pairs"] = {"dataset": {"path": rows[1]}, "beta": 0.1}
    else:
        values["eval_dataset"] = {"path": rows[1]}
    if name == "sft":  # it trains a new adapter
        values |= {"adapter": None, "base_model": str(tmp_path / "absent")}
    main = {"dpo": fine_tune_dpo, "sft": sft, "evaluate": evaluate}[name].main
    assert run_here(main, values, tmp_path) == 2
    missing, *bad_rows = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'absent'}: no such file or folder" in missing
    assert [line.partition(":")[2].partition(": has no ")[0] for line in bad_rows] == [
        f" {row}, line 1" for row in rows
    ]
    assert not (tmp_path / "run").exists()
