"""evaluate.py with a reply for each label, on the tiny models: previewed, killed, resumed, scored again."""

import signal

import pytest
from conftest import read_json, read_lines, write_rows
from script_runs import run_here, start_script
from test_evaluate import compare_here, replies_in
from test_interruptions import once
from tiny_models import EMOTION_LABELS, demo_rows

import evaluate

DIALOGUES = 5


@pytest.fixture(scope="module")
def values(tiny, tmp_path_factory) -> dict:
    """Args of an evaluation of two adapters, with all targets."""
    folder = tmp_path_factory.mktemp("all_targets")
    path = write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", DIALOGUES))
    return tiny.evaluate(
        folder,
        backend="transformers",
        adapter=str(tiny.folder / "other_adapter"),
        baseline_adapter=tiny.adapter,
        dataset={"path": path, "target_emotions": "all"},
        bootstrap_resamples=100,
    )


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    """The run folder of an evaluation that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_here(evaluate.main, values | {"output_dir": str(folder / "run")}, folder) == 0
    return folder / "run"


def test_the_preview_says_how_many_replies_there_will_be(values, tmp_path, capsys):
    assert run_here(evaluate.main, values | {"output_dir": str(tmp_path / "run")}, tmp_path, "--dry_run") == 0
    said = capsys.readouterr().out
    assert "5 dialogues, each with 7 targets" in said and "70 replies of up to 8 new tokens" in said
    assert not (tmp_path / "run").exists()


def test_each_dialogue_has_a_reply_for_each_label(whole):
    rows = read_lines(whole / "predictions.jsonl")
    assert [(row["model"], row["index"], row["target_emotion"]) for row in rows] == [
        (model, index, target)
        for model in ("baseline", "adapter")
        for index in range(DIALOGUES)
        for target in EMOTION_LABELS.names
    ]
    gold_targets = [row["prompt"][-1]["content"]["emotion"] for row in demo_rows("dialogues_test", DIALOGUES)]
    for row in rows:
        assert row["gold_target"] == gold_targets[row["index"]]
        assert row["prompt"].endswith(f"<|im_start|>assistant {row['target_emotion']}\n")
    metrics = read_json(whole / "metrics.json")
    assert (metrics["prompts"], metrics["replies"], metrics["adapter/emotion/fear/support"]) == (5, 35, 5)
    assert f"{DIALOGUES} prompts with 7 replies each" in (whole / "report.html").read_text(encoding="utf-8")


def test_with_the_gold_target_it_is_the_reply_of_an_evaluation_of_gold_targets(whole, values, tmp_path):
    dataset = values["dataset"] | {"target_emotions": "gold"}
    gold = values | {"dataset": dataset, "output_dir": str(tmp_path / "gold")}
    assert run_here(evaluate.main, gold, tmp_path) == 0
    rows = [row for row in read_lines(whole / "predictions.jsonl") if row["target_emotion"] == row["gold_target"]]
    of_gold = read_lines(tmp_path / "gold" / "predictions.jsonl")
    assert [row["response"] for row in rows] == [row["response"] for row in of_gold]
    assert [row["gold_logp"] for row in rows] == pytest.approx([row["gold_logp"] for row in of_gold], abs=1e-3)
    assert compare_here([whole, tmp_path / "gold"], tmp_path / "compared") == 2


def test_killed_it_ends_in_the_same_bytes(whole, values, tmp_path, capsys):
    run = tmp_path / "run"
    process = start_script("evaluate.py", values | {"output_dir": str(run)}, tmp_path)
    once(lambda: replies_in(run) >= 1, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = replies_in(run)
    assert not (run / "metrics.json").exists() and 0 < kept < 70
    assert run_here(evaluate.main, values | {"output_dir": str(run)}, tmp_path) == 0
    assert f"{kept} replies are already there" in capsys.readouterr().out
    assert (run / "predictions.jsonl").read_bytes() == (whole / "predictions.jsonl").read_bytes()


def test_they_are_scored_again_in_place_and_compared(whole, values, tmp_path):
    before = (whole / "predictions.jsonl").read_bytes()
    again = values | {"output_dir": str(whole)}
    assert run_here(evaluate.main, again, tmp_path, "--from_predictions", str(whole)) == 0
    assert (whole / "predictions.jsonl").read_bytes() == before
    other = values | {"output_dir": str(tmp_path / "other")}
    assert run_here(evaluate.main, other, tmp_path, "--from_predictions", str(whole)) == 0
    assert compare_here([whole, tmp_path / "other"], tmp_path / "compared") == 0
    metrics = read_json(tmp_path / "compared" / "metrics.json")
    assert (metrics["prompts"], metrics["replies"], metrics["difference/emotion_accuracy"]) == (5, 35, 0)
