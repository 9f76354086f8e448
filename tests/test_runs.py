"""Run folders: which may be used, and what is written into them."""

import json

import pytest

from response_generator.runs import RunFolder, differing_keys

ARGUMENTS = {"seed": 1, "dpo": {"beta": 0.1}}


def test_a_new_folder_is_free_and_stays_unwritten(tmp_path):
    run = RunFolder.at(str(tmp_path / "a" / "b"), ARGUMENTS)
    assert run.faults() == []
    assert not (tmp_path / "a").exists()


def test_the_same_run_may_go_on_and_another_is_refused_by_its_keys(tmp_path):
    RunFolder(tmp_path, ARGUMENTS).write_json("args.json", ARGUMENTS)
    assert RunFolder(tmp_path, ARGUMENTS).faults() == []
    (fault,) = RunFolder(tmp_path, {"seed": 2, "dpo": {"beta": 0.2}, "new": None}).faults()
    assert "holds another run; differing: dpo.beta, seed; name another folder" in fault


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    (fault,) = RunFolder(tmp_path, ARGUMENTS).faults()
    assert "not a run folder" in fault


def test_a_place_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    for place in (file / "run", "/proc/run"):
        (fault,) = RunFolder.at(str(place), ARGUMENTS).faults()
        assert "cannot be written" in fault


def test_finished_means_metrics_are_there(tmp_path):
    run = RunFolder(tmp_path, ARGUMENTS)
    assert not run.is_finished
    run.write_json("metrics.json", {})
    assert run.is_finished
    assert not list(tmp_path.glob("*.part"))


def test_start_writes_arguments_and_environment_without_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_test")
    monkeypatch.setenv("WANDB_API_KEY", "wandb_secret_of_test")
    run = RunFolder(tmp_path / "run", ARGUMENTS)
    run.start()
    run.note_environment({"model": {"attention": "sdpa"}})
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    assert environment["model"] == {"attention": "sdpa"}
    assert environment["packages"]["trl"] == "1.15.0"
    assert json.loads((run.path / "args.json").read_text(encoding="utf-8")) == ARGUMENTS
    assert not any("secret_of_test" in file.read_text(encoding="utf-8") for file in run.path.iterdir())


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [({"a": 1}, {"a": 1}, []), ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2}}, ["a.b", "a.c"]), ({}, {"a": 0}, ["a"])],
)
def test_differing_keys(one, other, keys):
    assert differing_keys(one, other) == keys
