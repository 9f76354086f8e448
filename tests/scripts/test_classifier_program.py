"""`python -m response_generator.classifier` on tiny models."""

import re

import pytest
from conftest import read_json, write_rows
from script_runs import run_here
from tiny_models import demo_rows

from response_generator import classifier
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.programs import classifier_run
from response_generator.scoring.classifiers import load_emotion_classifier


def values_of(tiny, output, base: str, **changes) -> dict:
    data = {"path": str(tiny.folder / "dialogues.jsonl")}
    trainer = {"num_train_epochs": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}
    return {
        "output_dir": str(output),
        "seed": 1,
        "base_model": base,
        "dataset": data,
        "eval_dataset": data,
        "trainer": trainer,
        **changes,
    }


@pytest.mark.parametrize("base", ["emotion", "base"])
def test_the_accuracy_is_that_of_the_saved_classifier(base, tiny, tmp_path, capsys):
    """With an encoder and with a language model; the programs that use the classifier load it in another way."""
    assert run_here(classifier.main, values_of(tiny, tmp_path / "run", str(tiny.folder / base)), tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    contents = [turn["content"] for row in demo_rows("dialogues_test", 6) for turn in row["prompt"]]
    last = [row["prompt"][-1]["content"] for row in demo_rows("dialogues_test", 6)]
    scoring = ScoringArguments(
        emotion_model=str(tmp_path / "run" / "classifier"), gibberish_model=str(tiny.folder / "gibberish"), batch_size=4
    )
    loaded = load_emotion_classifier(scoring)
    for prefix, turns in (("", contents), ("last_replies/", last)):
        found = [probabilities.label for probabilities in loaded.classify([turn["dialog"] for turn in turns])]
        right = [turn["emotion"] == label for turn, label in zip(turns, found, strict=True)]
        assert metrics[f"{prefix}held_out"] == len(turns)
        assert metrics[f"{prefix}accuracy"] == pytest.approx(sum(right) / len(right))
        gold = [turn["emotion"] for turn in turns]
        most_frequent = max(gold, key=gold.count)
        assert metrics[f"{prefix}majority_accuracy"] == sum(each == most_frequent for each in gold) / len(gold)
        recalls = [value for name, value in metrics.items() if name.startswith(f"{prefix}recall/")]
        assert metrics[f"{prefix}macro_recall"] == pytest.approx(sum(recalls) / len(set(gold)))
        happy = [
            label == "happiness" for label, turn in zip(found, turns, strict=True) if turn["emotion"] == "happiness"
        ]
        if happy:
            assert metrics[f"{prefix}recall/happiness"] == pytest.approx(sum(happy) / len(happy))
    assert metrics["accuracy"] > 0.5  # it learns; one of seven would be right by chance
    shown = capsys.readouterr()
    assert "all held-out turns: accuracy" in shown.out and "warning: the accuracy" not in shown.out
    assert "warning: 6 of 6 held-out dialogues are also training dialogues; name another eval_dataset" in shown.out
    count = 8 * len(contents)  # epochs; a file gets one line at the end, as the run takes less than ten seconds
    (line,) = [line for line in shown.err.splitlines() if line.startswith(f"{count}/{count} turns  ")]
    assert " loss 0." in line or " loss 1." in line
    assert "it/s" not in shown.err and "{'loss'" not in shown.out + shown.err


def test_a_classifier_that_is_no_better_than_one_constant_answer_is_kept_with_a_warning(tiny, tmp_path, capsys):
    values = values_of(tiny, tmp_path / "run", str(tiny.folder / "emotion"))
    values["trainer"] |= {"num_train_epochs": 1, "learning_rate": 1e-9}  # the head stays random
    assert run_here(classifier.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["accuracy"] <= metrics["majority_accuracy"]
    assert (
        f"warning: the accuracy on all held-out turns ({metrics['accuracy']:.1%}) is not better than that of always "
        in capsys.readouterr().out
    )
    assert (tmp_path / "run" / "classifier" / "model.safetensors").exists()


def test_own_labels(tiny, tmp_path, capsys):
    """The classifier has the labels of the run, in their order; it learns nothing of a label that no turn has."""
    rows = demo_rows("dialogues_test", 6)
    for number, turn in enumerate(turn for row in rows for turn in row["prompt"]):
        turn["content"]["emotion"] = ("rude", "polite")[number % 2]
    data = {"path": write_rows(tmp_path / "rows.jsonl", rows)}
    values = values_of(tiny, tmp_path / "run", tiny.base, dataset=data, eval_dataset=data)
    assert run_here(classifier.main, values | {"labels": ["polite", "rude"]}, tmp_path) == 0
    names = read_json(tmp_path / "run" / "classifier" / "config.json")["id2label"]
    assert names == {"0": "polite", "1": "rude"}
    count = sum(len(row["prompt"]) for row in rows) // 2
    shown = capsys.readouterr().out
    assert f"turns of each label: polite {count}, rude {count}" in shown
    assert re.search(r"label .*precision.*\n.*\n *polite .*\n *rude ", shown)

    values["output_dir"] = str(tmp_path / "other")
    assert run_here(classifier.main, values | {"labels": ["polite", "rude", "cool"]}, tmp_path) == 2
    assert (
        f"labels: no turn of dataset and extra_dataset has 'cool'; turns of each label: polite {count}, rude {count}, "
        f"cool 0; add dialogues with it, or take it out of labels" in capsys.readouterr().err
    )
    assert not (tmp_path / "other").exists()


def test_the_warning_says_whether_other_emotions_are_recognized():
    metrics = {"accuracy": 0.6, "majority_accuracy": 0.6, "macro_recall": 0.25}
    metrics |= {"examples/anger": 60, "examples/fear": 20, "examples/neutral": 10, "examples/sadness": 10}
    words = classifier_run.describe_low_accuracy(metrics)
    assert words.startswith(
        "the accuracy on all held-out turns (60.0%) is not better than that of always answering anger, the most "
        "frequent label (60.0%). The mean recall of the labels is 25.0% instead of 25.0%: nothing shows that"
    )
    words = classifier_run.describe_low_accuracy(metrics | {"macro_recall": 0.4})
    assert words.endswith("it recognizes other labels, but takes too many turns that are anger for them")
    assert classifier_run.describe_low_accuracy(metrics | {"accuracy": 0.61}) is None


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
    values["trainer"] |= {"learning_rate": -1, "save_steps": 5}
    assert run_here(classifier.main, values, tmp_path) == 2
    err = capsys.readouterr().err
    assert "trainer.learning_rate: got -1" in err
    assert "trainer.save_steps: unknown key" in err
    values["trainer"] = {}
    assert run_here(classifier.main, values, tmp_path) == 2
    assert "absent" in capsys.readouterr().err
