"""The replies of the report: each prompt with the gold reply and every model's reply."""

from typing import Any

from response_generator.constants import EMOTIONS
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.predictions_file import Prediction, group_by_run
from response_generator.reporting.blocks import Browser

OUTCOMES = {True: "right", False: "wrong"}
PAIR_OUTCOMES = {  # of the first and of the compared model
    (False, True): "fixed",
    (True, False): "broken",
    (True, True): "both right",
    (False, False): "both wrong",
}


def build_browser(comparison: Comparison) -> Browser:
    """One row per prompt and sample. Of a recipe that was trained several times, the replies of the first run."""
    first, *others = comparison.models
    replies = zip(*(group_by_run(rows)[0] for rows in comparison.rows.values()), strict=True)
    return Browser(
        title="Replies",
        unit="rows",
        rows=[build_row(dict(zip(comparison.models, each, strict=True)), comparison.samples > 1) for each in replies],
        emotions=EMOTIONS,
        orders=(
            ("largest gain first", "largest loss first")
            if others
            else ("most probable target first", "least probable target first")
        ),
        outcomes=list((PAIR_OUTCOMES if others else OUTCOMES).values()),
        view_title=f"{first} against",
        view_options=others,
        hint="They are also in predictions.jsonl.",
    )


def build_row(replies: dict[str, Prediction], is_sampled: bool) -> dict[str, Any]:
    """The replies of all models to one prompt."""
    first, *others = replies.values()
    place = f"row {first['index']}" + (f", sample {first['sample']}" if is_sampled else "")
    title = f"{place}: target {first['target_emotion']}"
    gold = {
        "name": "gold reply",
        "text": first["gold_response"],
        "labels": f"predicted: {first['gold_emotion']}",
        "style": "",
    }
    return {
        "target": first["target_emotion"],
        "history": [
            {"role": turn["role"], "emotion": turn["content"]["emotion"], "text": turn["content"]["dialog"]}
            for turn in first["history"]
        ],
        "replies": [gold, *(describe_reply(model, row) for model, row in replies.items())],
        "views": [compare_replies(title, first, other) for other in others] or [describe_outcome(title, first)],
    }


def follows_target(row: Prediction) -> bool:
    return row["predicted_emotion"] == row["target_emotion"]


def describe_reply(model: str, row: Prediction) -> dict[str, str]:
    labels = [
        f"predicted: {row['predicted_emotion']} ({row['emotion_score']:.2f})",
        row["gibberish_label"],
        "ends with punctuation" if row["ends_with_punctuation"] else "no punctuation at the end",
        f"{row['new_tokens']} tokens",
    ]
    if row["hit_max_new_tokens"]:
        labels.append("stopped by max_new_tokens")
    style = OUTCOMES[follows_target(row)]
    return {"name": model, "text": row["response"], "labels": ", ".join(labels), "style": style}


def compare_replies(title: str, first: Prediction, other: Prediction) -> dict[str, Any]:
    outcome = PAIR_OUTCOMES[follows_target(first), follows_target(other)]
    gain = other["target_probability"] - first["target_probability"]
    change = f"{gain:+.3f}" if gain > 0 else f"{gain:.3f}"
    title = f"{title}, {outcome}, target probability {change}"
    return {"title": title, "outcome": outcome, "keys": [-gain, gain]}


def describe_outcome(title: str, row: Prediction) -> dict[str, Any]:
    outcome, probability = OUTCOMES[follows_target(row)], row["target_probability"]
    return {"title": f"{title}, {outcome}", "outcome": outcome, "keys": [-probability, probability]}
