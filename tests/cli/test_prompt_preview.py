"""Which models chose the pairs of an adapter, found through the run folders."""

import json

from response_generator.cli.prompt_preview import find_pair_scoring


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
