"""Which models chose the pairs of an adapter, found through the run folders."""

import json
from types import SimpleNamespace

import pytest

from response_generator.cli.prompt_preview import find_pair_scoring, show_shared_models
from response_generator.config.scoring_schema import EvaluationScoringArguments


def write_run(folder, **args):
    folder.mkdir()
    (folder / "args.json").write_text(json.dumps(args), encoding="utf-8")
    return folder


def test_it_follows_adapter_training_and_pairs(tmp_path):
    pairs = write_run(tmp_path / "preferences", scoring={"emotion_model": "owner/emotions"})
    training = write_run(tmp_path / "dpo", dataset={"path": str(pairs / "preferences.jsonl")})
    assert find_pair_scoring(str(training / "adapter")) == {"emotion_model": "owner/emotions"}


def test_where_a_run_is_not_known_there_are_none(tmp_path):
    assert find_pair_scoring("owner/adapter") == {}
    assert find_pair_scoring(str(tmp_path / "adapter")) == {}
    training = write_run(tmp_path / "dpo", dataset={"path": "owner/pairs"})
    assert find_pair_scoring(str(training / "adapter")) == {}
    other = write_run(tmp_path / "other", dataset={"path": str(tmp_path / "rows.jsonl")})
    assert find_pair_scoring(str(other / "adapter")) == {}


@pytest.mark.parametrize(
    ("scoring", "warned"),
    [
        ({"emotion_model": "owner/emotions", "fit_model": "owner/model"}, ["emotion_model", "fit_model"]),
        ({"emotion_model": "owner/other", "fit_model": "owner/model"}, ["fit_model"]),
        ({"emotion_model": "owner/emotions"}, ["emotion_model"]),
        ({"fit_model": "owner/other"}, []),
        ({}, []),
    ],
)
def test_models_that_also_chose_the_pairs_are_warned_of(tmp_path, capsys, scoring, warned):
    chosen_by = {"emotion_model": "owner/emotions", "fit_model": "owner/model"}
    pairs = write_run(tmp_path / "preferences", scoring=chosen_by)
    training = write_run(tmp_path / "dpo", dataset={"path": str(pairs / "preferences.jsonl")})
    adapter = str(training / "adapter")
    show_shared_models(SimpleNamespace(adapter=adapter, scoring=EvaluationScoringArguments(**scoring)))
    said = capsys.readouterr().out
    assert [line.split()[1].removeprefix("scoring.") for line in said.splitlines()] == warned
    assert said.count("also chose the pairs that the adapter was trained on") == len(warned)
