"""Made evaluations for the tests of their report."""

import numpy as np
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.labels import DAILY_DIALOG_EMOTIONS as EMOTIONS

ENVIRONMENT = {"commit": '"c0ffee"'}
TITLE = "Evaluation: demo/evaluate (adapter dpo, baseline <b>sft</b>)"
SETTINGS = {"seed": "42", "wandb.notes": '"<b>bold</b>"'}


def made_rows(count: int = 70, samples: int = 1) -> dict[str, list[dict]]:
    """Row 0 fixed, 1 broken, 2 both right, 3 both wrong, and so on; the target of row n is the n-th emotion in turn."""
    rows = {"baseline": [], "adapter": []}
    for index in range(count):
        target = EMOTIONS[index % 7]
        wrong = EMOTIONS[(index + 1) % 7]
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


def compare_made_rows() -> Comparison:
    return compare_models(made_rows(), EMOTION_LABELS, LABELS, 500, seed=1, margins=np.linspace(-1, 2, 30))


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
