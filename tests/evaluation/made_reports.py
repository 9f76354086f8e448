"""Made evaluations for the tests of their report."""

import numpy as np
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.predictions_file import TARGET_FIELDS, Prediction
from response_generator.evaluation.scores import SCORES
from response_generator.labels import Labels

ENVIRONMENT = {"commit": '"c0ffee"'}
TITLE = "Evaluation: demo/evaluate (adapter dpo, baseline <b>sft</b>)"
SETTINGS = {"seed": "42", "wandb.notes": '"<b>bold</b>"'}
TWO_LABELS = Labels(("polite", "rude"), None)
MANY_LABELS = Labels(
    tuple(
        "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
        "disgust embarrassment excitement fear gratitude grief joy love nervousness neutral optimism pride realization "
        "relief remorse sadness surprise".split()
    ),
    "neutral",
)
NO_LABELS = Labels((), None)


def made_rows(count: int = 70, samples: int = 1, labels: Labels = EMOTION_LABELS) -> dict[str, list[Prediction]]:
    """Row 0 fixed, 1 broken, 2 both right, 3 both wrong, and so on; the target of row n is the n-th emotion in turn."""
    rows = {"baseline": [], "adapter": []}
    names = labels.names
    for index in range(count):
        target = names[index % len(names)]
        wrong = names[(index + 1) % len(names)]
        for sample in range(samples):
            for model, right in (("baseline", index % 4 in (1, 2)), ("adapter", index % 4 in (0, 2))):
                rows[model].append(
                    row(
                        index,
                        target,
                        target if right else wrong,
                        sample,
                        target_probability=0.9 - index / 1000 if right else 0.1,
                        response=f"The {model} says {index} .",
                        gold_emotion=target,
                        new_tokens=5 + index % 9,
                    )
                )
    return rows


def drop_scores(rows: list[Prediction], *others: str) -> list[Prediction]:
    """The rows as they are without classifiers, and without other columns."""
    dropped = {*SCORES, *(score.gold for score in SCORES.values()), *others}
    return [{name: value for name, value in each.items() if name not in dropped} for each in rows]


def compare_made_rows(labels: Labels = EMOTION_LABELS) -> Comparison:
    rows = made_rows(10 * len(labels.names), labels=labels)
    return compare_models(rows, labels, LABELS, 500, seed=1, margins=np.linspace(-1, 2, 30))


def compare_without_classifiers(labels: Labels, *models: str) -> Comparison:
    """With labels the prompts have a target emotion; without, dialogues are plain text."""
    rows = made_rows()
    if labels:
        plain = {model: drop_scores(rows[model]) for model in models}
    else:
        history = [{"role": "user", "content": "Is it raining ?"}]
        plain = {
            model: [each | {"history": history} for each in drop_scores(rows[model], *TARGET_FIELDS)]
            for model in models
        }
    return compare_models(plain, labels, [], 500, seed=1, margins=np.linspace(-1, 2, 30) if len(models) > 1 else None)


def compare_four_runs() -> Comparison:
    """Four models with two samples a prompt, the last one trained three times."""
    rows = made_rows(count=8, samples=2)
    recipe = [row | {"run": run} for row in rows["adapter"] for run in range(3)]
    recipe.sort(key=lambda row: (row["index"], row["run"], row["sample"]))
    folder = "a_folder_with_a_long_name/evaluate"
    return compare_models(
        {"runs/a": rows["baseline"], folder: rows["adapter"], "runs/c": rows["baseline"], "dpo": recipe},
        EMOTION_LABELS,
        LABELS,
        100,
        seed=1,
    )
