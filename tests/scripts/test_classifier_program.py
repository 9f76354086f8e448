"""`python -m response_generator.classifier` on tiny models."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import read_json, write_rows
from script_runs import run_here, start_script
from sklearn.metrics import classification_report, confusion_matrix
from test_interruptions import once
from tiny_models import EMOTION_LABELS, demo_rows

from response_generator import classifier
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.programs import classifier_run
from response_generator.scoring.classifiers import load_emotion_classifier
from response_generator.scoring.quality import ClassifierQuality, measure_dataset, read_quality

COUNT = sum(len(row["prompt"]) for row in demo_rows("dialogues_test", 6))


def values_of(tiny, output, base: str, **changes) -> dict:
    data = {"path": str(tiny.folder / "dialogues.jsonl")}
    trainer = {"num_train_epochs": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}
    return {
        "output_dir": str(output),
        "seed": 1,
        "base_model": base,
        "datasets": [data],
        "eval_datasets": {"test": data},
        "trainer": trainer,
        **changes,
    }


def list_texts(split: str, rows: int) -> list[dict]:
    contents = [turn["content"] for row in demo_rows(f"dialogues_{split}", rows) for turn in row["prompt"]]
    return [{"text": content["dialog"], "emotion": content["emotion"]} for content in contents]


def test_what_is_measured_is_the_saved_classifier_on_each_data_set(tiny, tmp_path, capsys):
    """With a language model, dialogues and texts, weights and calibration; the programs that use the classifier load it
    in another way."""
    texts = list_texts("train", 20)
    renamed = [{"utterance": row["text"], "mood": row["emotion"]} for row in list_texts("validation", 30)]
    held_out = {
        "path": write_rows(tmp_path / "held_out.jsonl", renamed),
        "columns": {"text": "utterance", "emotion": "mood"},
    }
    values = values_of(tiny, tmp_path / "run", tiny.base, label_balance=0.5)
    values["datasets"].append({"path": write_rows(tmp_path / "texts.jsonl", texts), "weight": 0.5})
    values["eval_datasets"]["held-out texts"] = held_out
    values["calibration"] = {"dataset": held_out, "label_balance": 0.5}
    assert run_here(classifier.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    folder = str(tmp_path / "run" / "classifier")
    loaded = load_emotion_classifier(ScoringArguments(emotion_model=folder, batch_size=4))
    assert loaded.calibration is not None
    quality = read_quality(folder)
    assert list(quality.data_sets) == ["test", "held-out texts"] and quality.labels == EMOTION_LABELS.names
    for name, rows in (("test", list_texts("test", 6)), ("held-out texts", list_texts("validation", 30))):
        gold = [row["emotion"] for row in rows]
        found = [each.label for each in loaded.classify([row["text"] for row in rows])]
        report = classification_report(gold, found, labels=sorted(set(gold)), output_dict=True, zero_division=0)
        matrix = confusion_matrix(gold, found, labels=EMOTION_LABELS.names)
        assert quality.data_sets[name].confusion == tuple(map(tuple, matrix))
        assert metrics[f"{name}/texts"] == len(rows)
        assert metrics[f"{name}/accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(gold, found, strict=True)]))
        assert metrics[f"{name}/majority_accuracy"] == max(map(gold.count, gold)) / len(gold)
        assert metrics[f"{name}/macro_recall"] == pytest.approx(report["macro avg"]["recall"])
        assert metrics[f"{name}/macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
        assert metrics[f"{name}/recall/neutral"] == pytest.approx(report["neutral"]["recall"])
        low, high = (metrics[f"{name}/accuracy/{bound}"] for bound in ("low", "high"))
        assert low <= metrics[f"{name}/accuracy"] <= high
    shown = capsys.readouterr()
    assert (
        f"texts to learn from {COUNT + len(texts)}; held out: test {COUNT}, held-out texts {len(renamed)}" in shown.out
    )
    assert "warning: 6 of 6 rows of eval_datasets.test are also in datasets; name other rows" in shown.out
    assert "rows of eval_datasets.held-out texts are also in calibration.dataset; name other rows" in shown.out
    assert "rows of eval_datasets.held-out texts are also in datasets" not in shown.out
    assert f"test, {COUNT} texts: accuracy " in shown.out
    count = 8 * (COUNT + len(texts))  # epochs; a file gets one line at the end, as the run takes less than ten seconds
    (line,) = [line for line in shown.err.splitlines() if line.startswith(f"{count}/{count} texts  ")]
    assert " loss " in line
    assert "it/s" not in shown.err and "{'loss'" not in shown.out + shown.err


def test_an_encoder_learns(tiny, tmp_path, capsys):
    assert run_here(classifier.main, values_of(tiny, tmp_path / "run", str(tiny.folder / "emotion")), tmp_path) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["test/accuracy"] > 0.5  # one of seven would be right by chance
    assert "warning: the accuracy" not in capsys.readouterr().out
    assert not (tmp_path / "run" / "classifier" / "calibration.json").exists()


def test_a_stopped_and_a_killed_run_end_with_the_same_weights(tiny, tmp_path, capsys):
    trainer = {"num_train_epochs": 20, "train_sampling_strategy": "group_by_length", "save_strategy": "steps"}

    def build_values(output: str) -> dict:
        values = values_of(tiny, tmp_path / output, str(tiny.folder / "emotion"))
        values["trainer"] |= trainer | {"save_steps": 7, "save_total_limit": 100}
        return values

    assert run_here(classifier.main, build_values("whole"), tmp_path) == 0
    run, script = tmp_path / "run", "response_generator/classifier.py"
    process = start_script(script, build_values("run"), tmp_path)
    once((run / "checkpoint-7" / "run.json").is_file, process)
    process.send_signal(signal.SIGTERM)
    said = process.read_stderr()
    assert process.wait() == 130, said
    saved = max(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    assert f"interrupted: {saved} is saved; run the same command again to continue from it" in said
    process = start_script(script, build_values("run"), tmp_path)
    later = run / f"checkpoint-{7 * (int(saved.name.rpartition('-')[2]) // 7 + 2)}"
    once((later / "run.json").is_file, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (run / "classifier").exists()
    capsys.readouterr()
    assert run_here(classifier.main, build_values("run"), tmp_path) == 0
    assert f"resuming from {run}/checkpoint-" in capsys.readouterr().out
    assert_same_results(run, tmp_path / "whole")

    # Killed after the last step: only what follows the training is done again.
    (run / "metrics.json").unlink()
    shutil.rmtree(run / "classifier")
    assert run_here(classifier.main, build_values("run"), tmp_path) == 0
    shown = capsys.readouterr()
    assert "resuming from" in shown.out and " loss " not in shown.err
    assert_same_results(run, tmp_path / "whole")

    values = build_values("run")
    values["datasets"][0] |= {"limit": 5}
    (run / "metrics.json").unlink()
    assert run_here(classifier.main, values, tmp_path) == 2
    assert "holds another run; differing: datasets" in capsys.readouterr().err


def assert_same_results(run: Path, other: Path) -> None:
    for name in ("model.safetensors", "quality.json"):
        assert (run / "classifier" / name).read_bytes() == (other / "classifier" / name).read_bytes()
    assert read_json(run / "metrics.json") == read_json(other / "metrics.json")


def test_the_checkpoint_of_the_last_epoch_is_kept(tiny, tmp_path):
    assert run_here(classifier.main, values_of(tiny, tmp_path / "run", tiny.base), tmp_path) == 0
    steps = -(-COUNT // 4) * 8
    assert [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")] == [f"checkpoint-{steps}"]


def test_a_classifier_that_is_no_better_than_one_constant_answer_is_kept_with_a_warning(tiny, tmp_path, capsys):
    values = values_of(tiny, tmp_path / "run", str(tiny.folder / "emotion"))
    values["trainer"] |= {"num_train_epochs": 1, "learning_rate": 1e-9}  # the head stays random
    assert run_here(classifier.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["test/accuracy"] <= metrics["test/majority_accuracy"]
    assert (
        f"warning: the accuracy on test ({metrics['test/accuracy']:.1%}) is not better than that of always "
        in capsys.readouterr().out
    )
    assert (tmp_path / "run" / "classifier" / "model.safetensors").exists()


def test_own_labels(tiny, tmp_path, capsys):
    """The classifier has the labels of the run, in their order; it learns nothing of a label that no text has."""
    rows = demo_rows("dialogues_test", 6)
    for number, turn in enumerate(turn for row in rows for turn in row["prompt"]):
        turn["content"]["emotion"] = ("rude", "polite")[number % 2]
    data = {"path": write_rows(tmp_path / "rows.jsonl", rows)}
    values = values_of(tiny, tmp_path / "run", tiny.base, datasets=[data], eval_datasets={"mine": data})
    assert run_here(classifier.main, values | {"labels": ["polite", "rude"]}, tmp_path) == 0
    names = read_json(tmp_path / "run" / "classifier" / "config.json")["id2label"]
    assert names == {"0": "polite", "1": "rude"}
    count = COUNT // 2
    shown = capsys.readouterr().out
    assert f"texts of each label: polite {count}, rude {count}" in shown
    assert re.search(r"label .*precision.*\n.*\n *polite .*\n *rude ", shown)

    values["output_dir"] = str(tmp_path / "other")
    assert run_here(classifier.main, values | {"labels": ["polite", "rude", "cool"]}, tmp_path) == 2
    assert (
        f"datasets: no text has the label 'cool'; texts of each label: polite {count}, rude {count}, cool 0; add texts "
        f"with it, name other data, or take it out of labels" in capsys.readouterr().err
    )
    rude = {"path": write_rows(tmp_path / "rude.jsonl", [{"text": "No .", "emotion": "rude"}])}
    values |= {"labels": ["polite", "rude"], "calibration": {"dataset": rude}}
    assert run_here(classifier.main, values, tmp_path) == 2
    assert "calibration.dataset: no text has the label 'polite'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_warning_says_whether_other_emotions_are_recognized():
    def describe(right: list[int]) -> str | None:
        """Of 60, 20, 10 and 10 texts, so many are recognized; the others are taken for the first label, and of the
        first, for the second."""
        gold = np.repeat(range(4), [60, 20, 10, 10])
        predicted = [
            label if number < right[label] else int(label == 0)
            for label, count in enumerate([60, 20, 10, 10])
            for number in range(count)
        ]
        data = measure_dataset(gold, np.eye(4)[predicted], np.arange(100), seed=0)
        quality = ClassifierQuality(("anger", "fear", "neutral", "sadness"), {"MELD": data})
        return classifier_run.describe_low_accuracy("MELD", data, quality.measure_labels("MELD"))

    assert describe([60, 0, 0, 0]).startswith(
        "the accuracy on MELD (60.0%) is not better than that of always answering anger, the most frequent label "
        "(60.0%). The mean recall of the labels is 25.0% instead of 25.0%: nothing shows that"
    )
    assert describe([45, 5, 5, 5]).endswith(
        "it recognizes other labels, but takes too many texts that are anger for them"
    )
    assert describe([60, 1, 0, 0]) is None


def test_frozen_layers_are_not_trained(tiny, tmp_path, capsys):
    base = str(tiny.folder / "emotion")
    assert run_here(classifier.main, values_of(tiny, tmp_path / "run", base, frozen_layers=1), tmp_path) == 0
    from safetensors.torch import load_file

    before, after = (
        load_file(folder / "model.safetensors") for folder in (tiny.folder / "emotion", tmp_path / "run" / "classifier")
    )
    changed = {name for name in before if not before[name].equal(after[name])}
    assert not any(".layer.0." in name or "word_embeddings" in name for name in changed)
    assert "classifier.weight" in changed
    assert run_here(classifier.main, values_of(tiny, tmp_path / "other", base, frozen_layers=2), tmp_path) == 2
    assert "frozen_layers: got 2; allowed: up to 1" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_wrong_values_are_reported_before_anything_is_loaded(tiny, tmp_path, capsys):
    values = values_of(tiny, tmp_path / "run", str(tmp_path / "absent"))
    values["trainer"] |= {"learning_rate": -1, "eval_steps": 5, "label_names": ["x"], "save_strategy": "best"}
    values |= {"dataset": {"path": "x"}, "extra_dataset": None, "eval_dataset": {"path": "x"}, "label_balance": 1.5}
    values["datasets"] = [{"path": "x", "weight": 0, "limits": 3, "split": None}, 5]
    values["eval_datasets"] = {"a/b": {"path": "x"}}
    values["calibration"] = {"dataset": {"path": "x", "weight": 2}}
    assert run_here(classifier.main, values, tmp_path) == 2
    err = capsys.readouterr().err
    for words in (
        "trainer.learning_rate: got -1",
        "trainer.label_names: unknown key",
        "trainer.save_strategy: got 'best'; allowed: epoch, steps, no",
        "dataset: renamed to datasets",
        "extra_dataset: renamed to datasets",
        "eval_dataset: renamed to eval_datasets",
        "label_balance: got 1.5 (number); allowed: less than or equal to 1",
        "datasets.0.weight: got 0 (integer); allowed: greater than 0",
        'datasets.0.limits: unknown key; did you mean "limit"?',
        "datasets.1: got 5 (integer); allowed: ",
        "eval_datasets: got {'a/b': {'path': 'x'}} (object); needed: one or more data sets; allowed in a name",
        "calibration.dataset.weight: unknown key",
    ):
        assert words in err
    values = values_of(tiny, tmp_path / "run", str(tmp_path / "absent"), datasets=[], eval_datasets={})
    assert run_here(classifier.main, values, tmp_path) == 2
    err = capsys.readouterr().err
    assert "datasets: got [] (list); allowed: " in err and "eval_datasets: got {} (object); needed: one or more" in err


def test_wrong_texts_and_paths_are_reported_together(tiny, tmp_path, capsys):
    texts = [{"text": "Yes .", "emotion": "joy"}, {"text": " ", "emotion": "anger"}, {"words": "No ."}]
    first = write_rows(tmp_path / "first.jsonl", texts)
    second = write_rows(tmp_path / "second.jsonl", [{"words": "No .", "emotion": "anger"}])
    values = values_of(tiny, tmp_path / "run", str(tmp_path / "absent"))
    values |= {"datasets": [{"path": first}, {"path": "no_such.jsonl"}], "eval_datasets": {"test": {"path": second}}}
    assert run_here(classifier.main, values, tmp_path) == 2
    err = capsys.readouterr().err
    for words in (
        "base_model: ",
        "datasets.1.path: ",
        f"{first}: labels that are not in the args: 'joy' (rows: 1); add them to labels, or change the rows",
        f"{first}, line 1: emotion is 'joy'; allowed: neutral, anger",
        f"{first}, line 2: text is blank; needed: text",
        f"{first}, line 3: has no emotion, text; its columns: words; columns takes other names; the first row",
        f'{second}, line 1: has neither form; needed: "text" and "emotion", or a dialogue in "prompt" or "messages"; '
        f"its columns: words, emotion; columns takes other names",
    ):
        assert words in err, words


def test_bad_rows_are_counted(tiny, tmp_path, capsys):
    texts = [{"words": "No ."}, *list_texts("test", 6), {"text": "", "emotion": "anger"}]
    data = {"path": write_rows(tmp_path / "texts.jsonl", texts), "skip_bad_rows": True}
    values = values_of(tiny, tmp_path / "run", tiny.base, datasets=[data])
    assert run_here(classifier.main, values, tmp_path) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["datasets.0/skipped_rows"] == 2
    assert "datasets.0: skipped 1 bad row(s): text is empty" in capsys.readouterr().out


def test_a_dry_run_writes_nothing_and_an_entry_of_a_list_can_be_set(tiny, tmp_path, capsys):
    values = values_of(tiny, tmp_path / "run", tiny.base)
    values["datasets"][0] = {"path": "absent.jsonl"}
    path = tiny.folder / "dialogues.jsonl"
    options = ("--set", f"datasets.0.path={path}", "--set", "eval_datasets.test.limit=2", "--dry_run")
    assert run_here(classifier.main, values, tmp_path, *options) == 0
    assert f"texts to learn from {COUNT}; held out: test " in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert run_here(classifier.main, values, tmp_path, "--set", f"datasets.1.path={path}") == 2
    err = capsys.readouterr().err
    assert f"--set datasets.1.path={path}: there is no 1 in a list with the entries 0; write the whole value" in err
    assert json.loads((tmp_path / "args_of_test.json").read_text(encoding="utf-8")) == values
