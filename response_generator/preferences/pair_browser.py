"""The pairs of the report: each prompt with both replies."""

from typing import Any

from response_generator.data.datasets import Pair
from response_generator.data.pair_text import describe_turn, find_target_emotion, get_reply_text
from response_generator.labels import Labels
from response_generator.reporting.blocks import Browser

MAX_PAIRS = 5000  # keeps the page under some 6 MB
MARGIN_ORDERS = ("smallest margin first", "largest margin first")
LENGTH_ORDERS = ("chosen much shorter first", "chosen much longer first")


def build_browser(pairs: list[Pair], labels: Labels) -> Browser:
    shown = pairs[:MAX_PAIRS]
    return Browser(
        title="Pairs",
        unit="pairs",
        rows=[build_row(pair, labels) for pair in shown],
        emotions=sorted({find_target_emotion(pair, labels) or "" for pair in pairs} - {""}),
        orders=LENGTH_ORDERS if pairs[0].margin is None else MARGIN_ORDERS + LENGTH_ORDERS,
        note=f"The first {len(shown)} of {len(pairs)} pairs." if len(shown) < len(pairs) else "",
    )


def build_row(pair: Pair, labels: Labels) -> dict[str, Any]:
    target, found = find_target_emotion(pair, labels), pair.chosen_labels
    chosen, rejected = get_reply_text(pair.chosen), get_reply_text(pair.rejected)
    lead = len(chosen) - len(rejected)
    title, keys = f"row {pair.index}", [lead, -lead]
    if target:
        title += f", target {target}"
    if pair.margin is not None:
        title += f", margin {pair.margin:.3f}"
        keys = [pair.margin, -pair.margin, *keys]
    if isinstance(pair.prompt, str):
        history = [{"role": "prompt", "emotion": None, "text": pair.prompt}]
    else:
        history = [describe_turn(message) for message in pair.prompt]
    facts = (found.emotion, found.gibberish_label) if found else ()
    return {
        "target": target,
        "history": history,
        "replies": [
            describe_reply("chosen", chosen, pair.chosen_score, "right", *facts),
            describe_reply("rejected", rejected, pair.rejected_score, "wrong"),
        ],
        "views": [{"title": title, "keys": keys}],
    }


def describe_reply(name: str, text: str, score: float | None, style: str, *facts: str | None) -> dict[str, str]:
    parts = ["" if score is None else f"score {score:.3f}", f"{len(text)} characters", *facts]
    return {"name": name, "text": text, "labels": ", ".join(part for part in parts if part), "style": style}
