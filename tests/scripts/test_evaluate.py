"""evaluate.py as a user runs it, on the tiny models: killed, split over processes, scored again, refused."""

import json
import re
import signal
import subprocess
import sys

import pytest
from conftest import EVALUATED_PROMPTS, change_args, evaluated_in, read_json, read_lines, write_rows
from script_process import HANG_SECONDS
from script_runs import run_here, run_new_interpreter, run_script, start_script, start_two_processes
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from test_interruptions import once
from test_processes import ACCELERATE, launched
from tiny_models import demo_rows

import evaluate
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.evaluation.predictions_file import GENERATED_FIELDS
from response_generator.scoring.classifiers import load_emotion_classifier


def test_it_leaves_what_the_contract_says(evaluated, trained, tiny):
    run, done = evaluated
    for name in ("args.json", "environment.json", "metrics.json", "predictions.jsonl", "report.html", "summary.md"):
        assert (run / name).is_file(), name
    for name in ("emotions", "confusion", "quality", "lengths", "margins"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert "reply/s" in done.stderr
    adapters = f"adapter {trained[0].name}, baseline {tiny.folder.name}"
    title = f"<title>Evaluation: {run.parent.name}/{run.name} ({adapters})</title>"
    assert title in (run / "report.html").read_text(encoding="utf-8")
    assert "p = " in done.stdout and "n = 24 prompts with 2 replies each" in done.stdout
    assert (run / "summary.md").read_text(encoding="utf-8").splitlines()[0].strip("*") in done.stdout
    assert read_json(run / "environment.json")["model"]["four_bit"] is True


def test_rows_are_of_both_models_in_order_and_of_the_data(evaluated, evaluation):
    run, _ = evaluated
    rows = read_lines(run / "predictions.jsonl")
    assert [(row["model"], row["index"], row["sample"]) for row in rows] == [
        (model, index, sample)
        for model in ("baseline", "adapter")
        for index in range(EVALUATED_PROMPTS)
        for sample in range(2)
    ]
    with open(evaluation["dataset"]["path"], encoding="utf-8") as file:
        dialogues = [json.loads(line)["prompt"] for line in file]
    for row in rows:
        *history, last = dialogues[row["index"]]
        assert row["history"] == history
        assert (row["target_emotion"], row["gold_response"]) == (last["content"]["emotion"], last["content"]["dialog"])
        assert row["prompt"].endswith(f"<|im_start|>assistant {row['target_emotion']}\n")
        assert 2 <= row["new_tokens"] <= 8
        assert row["gold_logp"] < 0
    answers = {model: [row["response"] for row in rows if row["model"] == model] for model in ("baseline", "adapter")}
    assert answers["baseline"] != answers["adapter"]


def test_each_row_has_the_emotions_of_its_first_words(evaluated, tiny):
    rows = read_lines(evaluated[0] / "predictions.jsonl")
    for row in rows:
        words = row["response"].split()
        assert len(row["emotion_at_words"]) == max(1, len(words))
        assert row["emotion_at_words"][-1] == row["predicted_emotion"]
    classifier = load_emotion_classifier(ScoringArguments(emotion_model=str(tiny.folder / "emotion")))
    row = max(rows, key=lambda row: len(row["emotion_at_words"]))
    starts = [row["response"][: row["response"].index(word) + len(word)] for word in row["response"].split()[:1]]
    assert [each.label for each in classifier.classify(starts)] == row["emotion_at_words"][:1]


def test_its_figures_are_sklearns_on_its_predictions(evaluated):
    run, _ = evaluated
    metrics = read_json(run / "metrics.json")
    rows = read_lines(run / "predictions.jsonl")
    for model in ("baseline", "adapter", "gold"):
        own = [row for row in rows if row["model"] == ("baseline" if model == "gold" else model)]
        own = [row for row in own if row["sample"] == 0] if model == "gold" else own
        label = "gold_emotion" if model == "gold" else "predicted_emotion"
        targets, predicted = [row["target_emotion"] for row in own], [row[label] for row in own]
        emotional = [pair for pair in zip(targets, predicted, strict=True) if pair[0] != "neutral"]
        asked, given = zip(*emotional, strict=True)
        expected = {
            "emotion_accuracy": accuracy_score(targets, predicted),
            "emotion_f1_weighted": f1_score(targets, predicted, average="weighted", zero_division=0),
            "emotion_f1_macro": f1_score(targets, predicted, average="macro", zero_division=0),
            "non_neutral_accuracy": accuracy_score(asked, given),
            "non_neutral_f1_macro": f1_score(asked, given, labels=list({*asked}), average="macro", zero_division=0),
        }
        for name, value in expected.items():
            assert metrics[f"{model}/{name}"] == pytest.approx(value, abs=1e-9), (model, name)
        if model != "gold":
            emotions = sorted({*targets, *predicted})
            counts = confusion_matrix(targets, predicted, labels=emotions)
            for at, target in enumerate(emotions):
                for place, label in enumerate(emotions):
                    assert metrics[f"{model}/confusion/{target}/{label}"] == counts[at, place]
            assert metrics[f"{model}/mean_new_tokens"] == pytest.approx(sum(r["new_tokens"] for r in own) / len(own))
            assert metrics[f"{model}/replies_per_second"] > 0


def test_the_preference_is_of_the_pairs_under_both_models(evaluated):
    run, _ = evaluated
    logps = {(row["model"], row["index"]): row["chosen_logp"] - row["rejected_logp"] for row in pair_rows(run)}
    margins = [0.1 * (logps["adapter", index] - logps["baseline", index]) for index in range(12)]
    metrics = read_json(run / "metrics.json")
    assert metrics["preference/pairs"] == 12
    assert metrics["preference/reward_accuracy"] == sum(margin > 0 for margin in margins) / 12
    assert metrics["preference/margin_mean"] == pytest.approx(sum(margins) / 12)
    assert metrics["preference/reward_accuracy"] > 0.5  # it was trained on these very pairs


def pair_rows(run):
    return read_lines(run / "pair_logps.jsonl")


def started(launcher: list[str], values: dict, folder) -> subprocess.Popen:
    return launched(launcher, values | {"output_dir": str(folder / "run")}, folder, "evaluate.py")


def replies_in(run):
    file = run / "predictions.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_killed_twice_it_ends_in_the_same_bytes(evaluated, evaluation, tmp_path):
    run = tmp_path / "run"
    for least in (1, 40):
        process = start_script("evaluate.py", evaluation | {"output_dir": str(run)}, tmp_path)
        once(lambda least=least: replies_in(run) >= least, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (run / "metrics.json").exists()
        with open(run / "predictions.jsonl", "ab") as file:
            file.write(b'{"index": 3, "sample": 0, "mod')  # a write that the kill cut off
    kept = replies_in(run)
    again = evaluated_in(tmp_path, evaluation)
    assert 0 < kept < 96
    assert f"line {kept + 1} is incomplete" in again.stdout and "replies are already there" in again.stdout
    assert (run / "predictions.jsonl").read_bytes() == (evaluated[0] / "predictions.jsonl").read_bytes()
    assert sorted(map(str, pair_rows(run))) == sorted(map(str, pair_rows(evaluated[0])))
    speed = ("per_second", "generated_tokens_per_reply")  # of the batches that were timed
    figures, expected = (
        {name: value for name, value in read_json(each / "metrics.json").items() if not name.endswith(speed)}
        for each in (run, evaluated[0])
    )
    assert figures == expected


def test_two_processes_stopped_and_resumed_write_the_file_of_one(evaluated, evaluation, tmp_path):
    """Stopped by a signal, then run to the end by accelerate; test_processes.py has torchrun."""
    run = tmp_path / "run"
    processes = start_two_processes("evaluate.py", evaluation | {"output_dir": str(run)}, tmp_path)
    once(lambda: replies_in(run) >= 8, processes[0])
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert [process.wait() for process in processes] == [130, 130]
    assert "run the same command again to continue" in processes[0].read_stderr()
    assert not (run / "metrics.json").exists()
    second = started(ACCELERATE, evaluation, tmp_path)
    out, said = second.communicate(timeout=HANG_SECONDS)
    assert second.returncode == 0, said
    assert out.count("done: open") == out.count("replies are already there") == 1  # only the main process prints
    assert (run / "predictions.jsonl").read_bytes() == (evaluated[0] / "predictions.jsonl").read_bytes()
    assert read_json(run / "environment.json")["processes"] == 2


def test_a_finished_run_says_so(evaluated, evaluation, tmp_path):
    run, _ = evaluated
    again = run_script("evaluate.py", evaluation | {"output_dir": str(run)}, tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{run} is finished and is kept: see report.html" in again.stdout
    assert f"open {run / 'report.html'}" in again.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "another prompt"}, "row 0 has another prompt than dataset and chat_template give now"),
        ({"target_emotion": "disgust"}, "rows of other data, for example .*0, 'disgust', 0"),
        ({"gold_target": "disgust"}, "row 0 has another prompt"),
        ({"response": 5}, "predictions.jsonl, line .*: response is 5; needed: str; repair the row, or delete it"),
    ],
)
def test_rows_that_do_not_belong_are_told_before_anything_is_loaded(
    evaluated, evaluation, tmp_path, capsys, change, words
):
    part = tmp_path / "run"
    part.mkdir()
    rows = read_lines(evaluated[0] / "predictions.jsonl")
    rows[0] |= change
    write_rows(part / "predictions.jsonl", rows[:-1])  # not finished
    (part / "args.json").write_text(json.dumps(read_json(evaluated[0] / "args.json") | {"output_dir": str(part)}))
    assert run_here(evaluate.main, evaluation | {"output_dir": str(part)}, tmp_path) == 2
    assert re.search(words, capsys.readouterr().err)


def test_replies_are_scored_again_without_a_model(evaluated, evaluation, tiny, tmp_path):
    """With other classifiers in another folder, without base, adapters and data; then in place with the same ones."""
    run, _ = evaluated
    swapped = ["anger", "neutral", "disgust", "fear", "happiness", "sadness", "surprise"]
    elsewhere = {"base_model": "gone/base", "adapter": "gone/adapter", "baseline_adapter": "gone/too"}
    done = evaluated_in(
        tmp_path,
        evaluation,
        *("--from_predictions", str(run), "--set", "dataset.path=gone/data"),
        run=run_new_interpreter,
        scoring=evaluation["scoring"] | {"emotion_labels": swapped},
        wandb={"mode": "disabled"},
        **elsewhere,
    )
    assert "Unsloth" not in done.stdout + done.stderr
    swap = {"neutral": "anger", "anger": "neutral"}
    before, after = (read_lines(each / "predictions.jsonl") for each in (run, tmp_path / "run"))
    assert [row["response"] for row in after] == [row["response"] for row in before]
    assert [row["predicted_emotion"] for row in after] == [
        swap.get(row["predicted_emotion"], row["predicted_emotion"]) for row in before
    ]
    assert read_json(tmp_path / "run" / "args.json")["from_predictions"] == str(run)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert tiny.base in page and "gone/base" not in page  # its settings are those of the replies
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["preference/pairs"] == 12 and metrics["adapter/replies_per_second"] > 0

    bytes_before = (run / "predictions.jsonl").read_bytes()
    (run / "report.html").unlink()
    assert run_here(evaluate.main, evaluation | {"output_dir": str(run)}, tmp_path, "--from_predictions", str(run)) == 0
    assert (run / "report.html").is_file()
    assert (run / "predictions.jsonl").read_bytes() == bytes_before
    assert read_json(run / "environment.json")["model"]["four_bit"] is True


def compare_here(folders, folder) -> int:
    from response_generator.cli import command_line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evaluate.py", "--compare", *map(str, folders), "--output_dir", str(folder)])
        return command_line.run_main(evaluate.main)


def test_plain_dialogues_are_evaluated_without_labels_and_classifiers(tiny, tmp_path, capsys):
    """Generated, scored again in place, and compared; the section scoring is left out."""
    dialogues = [
        [{"role": turn["role"], "content": turn["content"]["dialog"]} for turn in row["prompt"]]
        for row in demo_rows("dialogues_test", 3)
    ]
    pairs = [
        {"prompt": turns[:-1], "chosen": turns[-1:], "rejected": [{"role": "assistant", "content": "No ."}]}
        for turns in dialogues
    ]
    values = tiny.evaluate(
        tmp_path,
        backend="transformers",
        labels=[],
        dataset={"path": write_rows(tmp_path / "dialogues.jsonl", [{"prompt": turns} for turns in dialogues])},
        heldout_pairs={"dataset": {"path": write_rows(tmp_path / "pairs.jsonl", pairs)}, "beta": 0.1},
        bootstrap_resamples=100,
    )
    del values["scoring"]
    values["chat_template"]["required_markers"] = []
    runs = [tmp_path / "run", tmp_path / "other"]
    for run in runs:
        assert run_here(evaluate.main, values | {"output_dir": str(run)}, tmp_path) == 0
    again = values | {"output_dir": str(runs[0])}
    rows = (runs[0] / "predictions.jsonl").read_bytes()
    assert run_here(evaluate.main, again, tmp_path, "--from_predictions", str(runs[0])) == 0
    assert (runs[0] / "predictions.jsonl").read_bytes() == rows
    fields = {*GENERATED_FIELDS, "ends_with_punctuation"} - {"target_emotion", "gold_target"}
    assert set(read_lines(runs[0] / "predictions.jsonl")[0]) == fields
    assert compare_here(runs, tmp_path / "compared") == 0
    for folder in (runs[0], tmp_path / "compared"):
        metrics = read_json(folder / "metrics.json")
        assert not [name for name in metrics if "emotion" in name or "gibberish" in name or "confusion" in name]
        assert {"difference/gold_perplexity", "difference/distinct_1", "gold/mean_new_tokens"} <= set(metrics)
        assert {each.name for each in folder.glob("*.png")} >= {"quality.png", "lengths.png"}
        assert not (folder / "emotions.png").exists()
    assert read_json(runs[0] / "metrics.json")["preference/pairs"] == 3
    capsys.readouterr()


def test_labels_without_a_classifier_are_targets_and_are_not_compared_with_other_labels(
    evaluated, evaluation, tmp_path, capsys
):
    """The replies of a finished run, scored without its emotion classifier."""
    scoring = {"gibberish_model": evaluation["scoring"]["gibberish_model"]}
    values = evaluation | {"scoring": scoring, "output_dir": str(tmp_path / "run"), "wandb": {"mode": "disabled"}}
    assert run_here(evaluate.main, values, tmp_path, "--from_predictions", str(evaluated[0])) == 0
    row = read_lines(tmp_path / "run" / "predictions.jsonl")[0]
    assert {"target_emotion", "gibberish_label"} <= set(row) and "predicted_emotion" not in row
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert "adapter/gibberish/clean" in metrics and "adapter/emotion_accuracy" not in metrics
    assert compare_here([evaluated[0], tmp_path / "run"], tmp_path / "compared") == 2
    assert "scoring.emotion_model is null, in " in capsys.readouterr().err
    other = values | {"labels": ["neutral", "rude"], "output_dir": str(tmp_path / "second")}
    assert run_here(evaluate.main, other, tmp_path, "--from_predictions", str(evaluated[0])) == 2
    assert re.search(
        "labels: got neutral, rude; the replies of .* were generated with neutral, anger,", capsys.readouterr().err
    )
    change_args(tmp_path / "run", labels=["neutral", "rude"])
    assert compare_here([evaluated[0], tmp_path / "run"], tmp_path / "compared") == 2
    assert "labels: neutral (neutral), rude, in " in capsys.readouterr().err


def test_pairs_cannot_be_asked_for_afterwards(evaluated, evaluation, tmp_path, capsys):
    run, _ = evaluated
    elsewhere = evaluation | {"output_dir": str(tmp_path / "run")}
    fewer = {"dataset": {**evaluation["heldout_pairs"]["dataset"], "limit": 4}, "beta": 0.1}
    assert run_here(evaluate.main, elsewhere | {"heldout_pairs": fewer}, tmp_path, "--from_predictions", str(run)) == 2
    assert "heldout_pairs.dataset: " in capsys.readouterr().err
    alone = tmp_path / "alone" / "predictions.jsonl"
    alone.parent.mkdir()
    alone.write_bytes((run / "predictions.jsonl").read_bytes())
    assert run_here(evaluate.main, elsewhere, tmp_path, "--from_predictions", str(alone)) == 2
    assert "has no pair_logps.jsonl: its run measured no pairs" in capsys.readouterr().err
    (alone.parent / "args.json").write_bytes((run / "args.json").read_bytes())
    assert run_here(evaluate.main, elsewhere, tmp_path, "--from_predictions", str(alone)) == 2
    assert "the run is not finished; first run the command that started it again" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_plain_transformers_evaluates_the_bare_base_too(tiny, tmp_path):
    done = evaluated_in(tmp_path, tiny.evaluate(tmp_path, backend="transformers"), run=run_new_interpreter)
    assert "Unsloth" not in done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "environment.json")["model"]["four_bit"] is True
    assert len(read_lines(tmp_path / "run" / "predictions.jsonl")) == 12


def test_a_dry_run_shows_the_prompts_and_writes_nothing(evaluation, tmp_path, capsys):
    assert run_here(evaluate.main, evaluation | {"output_dir": str(tmp_path / "run")}, tmp_path, "--dry_run") == 0
    shown = capsys.readouterr().out
    assert f"prompts {EVALUATED_PROMPTS}, tokens: median" in shown
    assert f"{EVALUATED_PROMPTS * 4} replies of up to 8 new tokens" in shown
    assert not (tmp_path / "run").exists()
