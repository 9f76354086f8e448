"""Figures from predictions; pure functions of the rows of predictions.jsonl."""

from collections import Counter
from typing import Any

from sklearn.metrics import accuracy_score, classification_report, f1_score

from response_generator.emotions import EMOTIONS

Prediction = dict[str, Any]  # a row of predictions.jsonl


def of_model(predictions: list[Prediction], gibberish_labels: list[str], seconds: float) -> dict[str, float]:
    """All figures of one model, flat names. Shares are of replies, `seconds` is the time of generation."""
    targets = [row["target_emotion"] for row in predictions]
    predicted = [row["predicted_emotion"] for row in predictions]
    gibberish = Counter(row["gibberish_label"] for row in predictions)
    tokens = sum(row["new_tokens"] for row in predictions)
    count = len(predictions)
    return {
        **emotion_figures(targets, predicted),
        **{f"gibberish/{label}": gibberish[label] / count for label in gibberish_labels},
        "complete": sum(row["complete"] for row in predictions) / count,
        "incomplete": sum(not row["complete"] for row in predictions) / count,
        "mean_new_tokens": tokens / count,
        "rows": count,
        "rows_per_second": count / seconds,
        "new_tokens_per_second": tokens / seconds,
    }


def of_judge(targets: list[str], named: list[str]) -> dict[str, float]:
    """How often the emotion classifier names the emotion of the reference replies: the ceiling of any accuracy."""
    return {"judge/accuracy_on_references": accuracy_score(targets, named)}


def emotion_figures(targets: list[str], predicted: list[str]) -> dict[str, float]:
    """Accuracy, F1 and the per-emotion table. F1 averages over the emotions that occur as target or prediction."""
    figures = {
        "emotion_accuracy": accuracy_score(targets, predicted),
        "emotion_f1_weighted": f1_score(targets, predicted, average="weighted", zero_division=0),
        "emotion_f1_macro": f1_score(targets, predicted, average="macro", zero_division=0),
    }
    table = classification_report(targets, predicted, labels=EMOTIONS, output_dict=True, zero_division=0)
    for emotion in EMOTIONS:
        for name in ("precision", "recall", "f1-score", "support"):
            figures[f"emotion/{emotion}/{name.removesuffix('-score')}"] = table[emotion][name]
    return figures
