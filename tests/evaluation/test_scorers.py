"""evaluate.py with everything that scores: columns and metrics, what is checked early, and runs that are compared."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import read_json, read_lines, write_rows
from script_runs import run_here
from test_finished_runs import compared
from tiny_models import demo_rows, write_tiny_classifier

import evaluate
from response_generator.labels import DAILY_DIALOG_EMOTIONS as EMOTIONS

COLUMNS = ("second_emotion", "names_emotion", "fit", "fit_first")
METRICS = ("second_emotion_accuracy", "classifier_agreement", "names_emotion", "followed_unnamed", "fit")


@pytest.fixture(scope="module")
def values(tiny, tmp_path_factory) -> dict:
    """Args of an evaluation that measures everything on six dialogues."""
    folder = tmp_path_factory.mktemp("scored")
    write_tiny_classifier(folder / "second", tiny.folder / "base", EMOTIONS[::-1])
    scoring = tiny.evaluate(folder)["scoring"]
    scoring |= {"second_emotion_model": str(folder / "second"), "fit_model": tiny.base, "fit_dialogues": 3}
    return tiny.evaluate(folder / "run", scoring=scoring, bootstrap_resamples=100)


@pytest.fixture(scope="module")
def run(values, tmp_path_factory):
    assert run_here(evaluate.main, values, tmp_path_factory.mktemp("start")) == 0
    return Path(values["output_dir"])


def test_every_row_has_the_scores_of_its_reply_and_of_the_gold_reply(run):
    rows, metrics = read_lines(run / "predictions.jsonl"), read_json(run / "metrics.json")
    assert len(rows) == 12
    for name in COLUMNS:
        for row in rows:
            assert type(row[name]) is type(row[f"gold_{name}"]) is {"second_emotion": str, "fit": float}.get(name, bool)
    own = [row for row in rows if row["model"] == "adapter"]
    assert {row["index"]: row["gold_fit"] for row in own} == {
        row["index"]: row["gold_fit"] for row in rows if row["model"] == "baseline"
    }
    assert metrics["adapter/fit"] == pytest.approx(sum(row["fit"] for row in own) / 6)
    assert metrics["gold/fit"] == pytest.approx(sum(row["gold_fit"] for row in own) / 6)
    assert metrics["gold/fit_rank_first"] == sum(row["gold_fit_first"] for row in own) / 6
    followed = sum(row["second_emotion"] == row["target_emotion"] for row in own) / 6
    assert metrics["adapter/second_emotion_accuracy"] == followed
    agreed = sum(row["gold_emotion"] == row["gold_second_emotion"] for row in own) / 6
    assert metrics["gold/classifier_agreement"] == agreed
    assert all(f"{model}/{name}" in metrics for name in METRICS for model in ("adapter", "baseline", "gold"))


def test_scored_again_the_replies_have_the_same_scores(run, values, tmp_path):
    again = values | {"output_dir": str(tmp_path / "again")}
    assert run_here(evaluate.main, again, tmp_path, "--from_predictions", str(run)) == 0
    assert (tmp_path / "again" / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()


def test_runs_are_compared_without_the_models_and_the_words(run, values, tmp_path, monkeypatch, capsys):
    words = tmp_path / "words.json"
    words.write_text(json.dumps({name: ["oh", "yes"] for name in EMOTIONS if name != "neutral"}), encoding="utf-8")
    changes = {"scoring": values["scoring"] | {"emotion_words": str(words)}, "output_dir": str(tmp_path / "one")}
    assert run_here(evaluate.main, values | changes, tmp_path, "--from_predictions", str(run)) == 0
    words.unlink()
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert compared([tmp_path / "one", tmp_path / "two"], tmp_path, monkeypatch) == 0
    metrics = read_json(tmp_path / "comparison" / "metrics.json")
    assert metrics["difference/fit"] == metrics["difference/names_emotion"] == 0
    assert compared([run, tmp_path / "one"], tmp_path, monkeypatch) == 2
    assert "scoring.emotion_words is " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"second_emotion_model": "gibberish", "gibberish_model": None},
            "second_emotion_model: .* its labels are clean, noise; needed",
        ),
        ({"emotion_words": "./none.json"}, "scoring.emotion_words: .*none.json: cannot be read"),
        ({"fit_model": "emotion"}, "scoring.fit_model: .*is a BertForSequenceClassification; needed: ForCausalLM"),
        ({"fit_model": "./none"}, "scoring.fit_model: .*none: no such file"),
        ({"fit_dialogues": 6}, "scoring.fit_dialogues: got 6; the data has 6 dialogues"),
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_what_cannot_be_scored_is_refused_at_the_start(tiny, run, values, tmp_path, capsys, changes, words, again):
    places = {name: str(tiny.folder / name) for name in ("emotion", "gibberish")}
    scoring = values["scoring"] | {key: places.get(str(value), value) for key, value in changes.items()}
    options = ["--from_predictions", str(run)] if again else []
    refused = values | {"scoring": scoring, "output_dir": str(tmp_path / "run")}
    assert run_here(evaluate.main, refused, tmp_path, *options) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_replies_without_labels_and_classifiers_have_a_fit(tiny, tmp_path):
    rows = [
        {"prompt": [{"role": turn["role"], "content": turn["content"]["dialog"]} for turn in row["prompt"]]}
        for row in demo_rows("dialogues_test", 4)
    ]
    values = tiny.evaluate(tmp_path / "run", labels=[], dataset={"path": write_rows(tmp_path / "rows.jsonl", rows)})
    values |= {"scoring": {"fit_model": tiny.base, "fit_dialogues": 3}, "bootstrap_resamples": 100}
    assert run_here(evaluate.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert {"adapter/fit", "gold/fit", "difference/fit_rank_first"} <= metrics.keys()
    assert not [name for name in metrics if "emotion" in name]
