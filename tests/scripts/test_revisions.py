"""owner/name@revision: a run reads what was published at that commit, and says which commit that was."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, read_json, write_rows
from local_hub import LocalHub
from script_runs import run_new_interpreter, script_environment
from tiny_models import demo_rows

from response_generator.config.source_list import Source
from response_generator.config.sources import (
    SourceKind,
    find_dataset_source_errors,
    find_model_source_errors,
    from_pretrained_keywords,
    is_local,
    join_dataset_revision,
    split_revision,
)
from response_generator.evaluation.saved_predictions import SavedPredictions
from response_generator.runs.hub_sources import find_hub_errors

OLD, NEW = "1" * 40, "2" * 40
REPOSITORIES = ("base", "adapter", "emotion", "gibberish")


@pytest.fixture(scope="module")
def hub(tiny, tmp_path_factory):
    """Every name at two commits: `OLD` with the tag v1, and main, which is good for nothing."""
    folder = tmp_path_factory.mktemp("hub")
    emptied = folder / "emptied"
    emptied.mkdir()
    (emptied / "README.md").write_text("moved away\n", encoding="utf-8")
    pairs, dialogues = demo_rows("written_pairs_train", 8), demo_rows("dialogues_test", 4)
    pairs.append(pairs[0] | {"chosen": []})
    dialogues.append({"prompt": dialogues[0]["prompt"][:-1]})  # ends with the user
    for name, rows in (("pairs", pairs), ("dialogues", dialogues)):
        (folder / name / "old").mkdir(parents=True)
        (folder / name / "new").mkdir()
        write_rows(folder / name / "old" / "train.jsonl", rows)
        write_rows(folder / name / "new" / "train.jsonl", rows[:1])
    with LocalHub() as hub:
        for name in REPOSITORIES:
            hub.add("model", f"owner/{name}", {OLD: tiny.folder / name, NEW: emptied}, {"main": NEW, "v1": OLD})
        for name in ("pairs", "dialogues"):
            commits = {OLD: folder / name / "old", NEW: folder / name / "new"}
            hub.add("dataset", f"owner/{name}", commits, {"main": NEW, "v1": OLD})
        hub.home = folder / "home"
        yield hub


def on_hub(values: dict, **changes) -> dict:
    return values | {"base_model": "owner/base@v1", "adapter": f"owner/adapter@{OLD}"} | changes


def test_a_run_reads_the_revisions_that_it_names_and_notes_their_commits(hub, tiny, tmp_path):
    values = on_hub(
        tiny.dpo(tmp_path / "run", dataset={"path": "owner/pairs@v1", "skip_bad_rows": True}),
        reference_adapter="owner/adapter@v1",
        eval_dataset={"path": "owner/pairs", "revision": OLD, "limit": 2},
    )
    done = run_new_interpreter("fine_tune_dpo.py", values, tmp_path, **hub.variables(hub.home))
    assert done.returncode == 0, done.stderr
    assert "pairs read 8" in done.stdout and "dataset: skipped 1 bad row(s): chosen is empty" in done.stdout
    metrics = read_json(tmp_path / "run" / "metrics.json")
    skipped = {name: value for name, value in metrics.items() if "skipped_rows" in name}
    assert skipped == {"dataset/skipped_rows": 1, "dataset/skipped_rows/chosen is empty": 1}
    environment = read_json(tmp_path / "run" / "environment.json")
    assert (environment["model"]["loaded_from"], environment["model"]["commit"]) == ("owner/base", OLD)
    assert environment["commits"] == dict.fromkeys(("adapter", "reference_adapter", "dataset", "eval_dataset"), OLD)
    weights = dict.fromkeys(("base_model", "adapter", "reference_adapter"), {"commit": OLD})
    assert environment["weights"] == read_json(tmp_path / "run" / "checkpoint-4" / "run.json")["weights"] == weights
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "base_model: owner/base\n" in card
    files = [path for _, path in hub.requests if "/resolve/" in path]
    assert files and not [path for path in files if NEW in path or "/main/" in path]


def test_classifiers_too_have_revisions(hub, tiny, tmp_path):
    values = on_hub(tiny.evaluate(tmp_path / "run", dataset={"path": "owner/dialogues@v1"}))
    scoring = {"emotion_model": "owner/emotion@v1", "gibberish_model": f"owner/gibberish@{OLD}"}
    values["dataset"]["skip_bad_rows"] = True
    done = run_new_interpreter("evaluate.py", values | {"scoring": scoring}, tmp_path, **hub.variables(hub.home))
    assert done.returncode == 0, done.stderr
    assert "prompts 4," in done.stdout and "dataset: skipped 1 bad row(s): prompt ends with user" in done.stdout
    counted = {"dataset/skipped_rows": 1, "dataset/skipped_rows/prompt ends with user": 1}
    assert read_json(tmp_path / "run" / "metrics.json").items() >= counted.items()
    assert SavedPredictions(tmp_path / "run").left_out() == counted  # --from_predictions says it again
    commits = read_json(tmp_path / "run" / "environment.json")["commits"]
    assert commits == dict.fromkeys(("adapter", "dataset", "scoring.emotion_model", "scoring.gibberish_model"), OLD)


def test_a_revision_without_an_adapter_is_told_with_the_way_out(hub, tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run", adapter="owner/adapter", dataset={"path": "owner/pairs@nothing"})
    values["base_model"] = "owner/base@v2"
    done = run_new_interpreter("fine_tune_dpo.py", values, tmp_path, **hub.variables(tmp_path / "home"))
    assert done.returncode == 2
    base, adapter, pairs = done.stderr.splitlines()
    assert "base_model: owner/base@v2: the repository is on the hub, but has no such revision" in base
    assert "adapter: owner/adapter: holds no LoRA adapter at this revision" in adapter
    assert f"the last commit that holds one is {OLD}: write owner/adapter@{OLD}" in adapter
    assert "dataset.path: owner/pairs@nothing: the repository is on the hub, but has no such revision" in pairs
    assert not (tmp_path / "run").exists()


READ = """
import json, sys
from response_generator.config.dataset_schema import (DatasetArguments)
from response_generator.data.reading import read_pairs
from response_generator.labels import DAILY_DIALOG_EMOTIONS, Labels
from response_generator.errors import InputError
try:
    dataset = DatasetArguments(**json.loads(sys.argv[1]), skip_bad_rows=True)
    print(len(read_pairs(dataset, Labels(DAILY_DIALOG_EMOTIONS, "neutral"))[0]))
except InputError as error:
    print(error)
"""


def test_without_the_hub_no_other_rows_are_taken(hub, tmp_path):
    """`datasets` takes what it has prepared last, whatever revision is asked for."""
    environment = script_environment() | hub.variables(tmp_path / "home") | {"PYTHONPATH": str(ROOT)}

    def read(offline: bool, **dataset) -> str:
        command = [sys.executable, "-c", READ, json.dumps({"path": "owner/pairs"} | dataset)]
        variables = environment | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert read(False, revision=OLD) == "8"
    assert read(True, revision=OLD) == "8"
    assert f"the cache holds commit {OLD}, not {NEW}" in read(True, revision=NEW)
    assert "the commit of revision v1 is unknown without the hub" in read(True, path="owner/pairs@v1")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/name", ("owner/name", None)),
        ("owner/name@v1", ("owner/name", "v1")),
        ("owner/name@refs/pr/1", ("owner/name", "refs/pr/1")),
        ("name@v1", ("name", "v1")),
        ("./owner/name@v1", ("./owner/name@v1", None)),
        ("runs/2026/name@v1", ("runs/2026/name@v1", None)),
    ],
)
def test_names_and_their_revisions(name, parts):
    assert split_revision(name) == parts


def test_a_folder_of_this_machine_has_no_revision(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.base, "owner/base@v1")
    assert (
        is_local("owner/base@v1") and find_model_source_errors("base_model", "owner/base@v1") == []
    )  # a folder may be called so
    assert from_pretrained_keywords("owner/base@v1")["pretrained_model_name_or_path"] == "owner/base@v1"
    shutil.copytree(tiny.base, "owner/base")
    shutil.rmtree("owner/base@v1")
    (message,) = find_model_source_errors("base_model", "owner/base@v1")
    assert "owner/base is a local path and has no revision; remove @v1" in message


def test_both_parts_must_be_there(hub):
    base = Source("base_model", "owner/base@", SourceKind.BASE_MODEL)
    errors = find_hub_errors([base, Source("adapter", "@v1", SourceKind.ADAPTER)])
    assert errors == [
        "base_model: owner/base@: allowed: owner/name, or owner/name@revision",
        "adapter: @v1: allowed: owner/name, or owner/name@revision",
    ]


def test_the_revision_of_a_data_set_is_written_once():
    assert join_dataset_revision("owner/name", "v1") == join_dataset_revision("owner/name@v1", None) == "owner/name@v1"
    assert join_dataset_revision("rows.jsonl", "v1") == "rows.jsonl"
    assert find_dataset_source_errors("dataset", "owner/name@v1", "v1") == []
    (message,) = find_dataset_source_errors("dataset", "owner/name@v1", "v2")
    assert message == "dataset: the path names the revision v1, the key revision v2; keep one of the two"
