"""The replies of the report: each prompt with the gold reply and every model's reply."""

from typing import Any

from response_generator.data.pair_text import describe_turn
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.predictions_file import Prediction, group_by_run
from response_generator.reporting.blocks import Browser

# By whether the reply follows its target; of two models, whether those of the first and of the other one do.
OUTCOMES = {
    (True,): "right",
    (False,): "wrong",
    (False, True): "fixed",
    (True, False): "broken",
    (True, True): "both right",
    (False, False): "both wrong",
}
GAIN_ORDERS = ("largest gain first", "largest loss first")
PROBABILITY_ORDERS = ("most probable target first", "least probable target first")


def build_browser(comparison: Comparison) -> Browser:
    """One row per prompt, target and sample. Of a recipe that was trained several times, the first run's replies."""
    first, *others = comparison.models
    orders, outcomes = (), ()
    if comparison.has_emotions:
        orders = GAIN_ORDERS if others else PROBABILITY_ORDERS
        outcomes = [outcome for followed, outcome in OUTCOMES.items() if len(followed) == (2 if others else 1)]
    replies = zip(*(group_by_run(rows)[0] for rows in comparison.rows.values()), strict=True)
    return Browser(
        title="Replies",
        unit="rows",
        rows=[build_row(dict(zip(comparison.models, each, strict=True)), comparison.samples > 1) for each in replies],
        emotions=comparison.labels.names,
        orders=orders,
        outcomes=outcomes,
        view_title=f"{first} against",
        view_options=others,
        hint="They are also in predictions.jsonl.",
    )


def build_row(replies: dict[str, Prediction], is_sampled: bool) -> dict[str, Any]:
    """The replies of all models to one prompt."""
    first, *others = replies.values()
    place = f"row {first['index']}" + (f", sample {first['sample']}" if is_sampled else "")
    title = f"{place}: target {first['target_emotion']}" if "target_emotion" in first else place
    gold = {"name": "gold reply", "text": first["gold_response"], "style": ""}
    gold["labels"] = f"predicted: {first['gold_emotion']}" if "gold_emotion" in first else ""
    return {
        "target": first.get("target_emotion"),
        "history": [describe_turn(turn) for turn in first["history"]],
        "replies": [gold, *(describe_reply(model, row) for model, row in replies.items())],
        "views": [describe_view(title, first, other) for other in others] or [describe_view(title, first)],
    }


def has_emotion(row: Prediction) -> bool:
    return "predicted_emotion" in row


def follows_target(row: Prediction) -> bool:
    return row["predicted_emotion"] == row["target_emotion"]


def describe_reply(model: str, row: Prediction) -> dict[str, str]:
    labels = [f"predicted: {row['predicted_emotion']} ({row['emotion_score']:.2f})"] if has_emotion(row) else []
    labels += [row["gibberish_label"]] if "gibberish_label" in row else []
    labels += [
        "ends with punctuation" if row["ends_with_punctuation"] else "no punctuation at the end",
        f"{row['new_tokens']} tokens",
    ]
    if row["hit_max_new_tokens"]:
        labels.append("stopped by max_new_tokens")
    style = OUTCOMES[follows_target(row),] if has_emotion(row) else ""
    return {"name": model, "text": row["response"], "labels": ", ".join(labels), "style": style}


def describe_view(title: str, *rows: Prediction) -> dict[str, Any]:
    """The outcome of a reply, or of the first and another model's reply, with the gain in the target's probability;
    none without an emotion classifier."""
    if not has_emotion(rows[0]):
        return {"title": title, "outcome": "", "keys": []}
    outcome = OUTCOMES[tuple(map(follows_target, rows))]
    probabilities = [row["target_probability"] for row in rows]
    key, change = probabilities[0], ""
    if len(rows) > 1:
        key = probabilities[1] - probabilities[0]
        change = f", target probability {'+' if key > 0 else ''}{key:.3f}"
    return {"title": f"{title}, {outcome}{change}", "outcome": outcome, "keys": [-key, key]}
