"""Pairs for the tests of preference data."""

from response_generator.data.datasets import Pair, ReplyLabels


def make_pair(index: int = 0, chosen="That is great news !", rejected="Oh no .", **changes) -> Pair:
    """A pair of messages whose target emotion is happiness, with scores and labels that suit it; or, if the prompt is
    text, of texts."""
    values = {
        "index": index,
        "prompt": [{"role": "user", "content": {"emotion": "neutral", "dialog": f"I got job number {index} ."}}],
        "chosen": {"emotion": "happiness", "dialog": chosen},
        "rejected": {"emotion": "happiness", "dialog": rejected},
        "chosen_score": 10.0,
        "rejected_score": 2.0,
        "chosen_labels": ReplyLabels("happiness", "clean", 0.9),
    }
    if isinstance(changes.get("prompt"), str):
        values |= {"chosen": chosen, "rejected": rejected}
    return Pair(**values | changes)
