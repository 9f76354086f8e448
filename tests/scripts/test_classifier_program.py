"""`python -m response_generator.classifier` on tiny models."""

import pytest
from conftest import read_json
from script_runs import run_here
from tiny_models import demo_rows

from response_generator import classifier
from response_generator.config.schema import ScoringArguments
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
        happy = [
            label == "happiness" for label, turn in zip(found, turns, strict=True) if turn["emotion"] == "happiness"
        ]
        if happy:
            assert metrics[f"{prefix}recall/happiness"] == pytest.approx(sum(happy) / len(happy))
    assert metrics["accuracy"] > 0.5  # it learns; one of seven would be right by chance
    assert "all held-out turns: accuracy" in capsys.readouterr().out


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
