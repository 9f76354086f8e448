"""The plain text of a pair, whether its prompt is rendered text or a list of messages."""

import re
from functools import cache

from response_generator.data.datasets import Content, Message, Pair, get_emotion
from response_generator.labels import Labels

SPECIAL_TOKENS_AT_END = re.compile(r"(?:\s|<[^<>\s]+>)+$")  # for example </s> or <|im_end|>


def get_reply_text(content: Content) -> str:
    """The words of a reply, without special tokens and spaces at its end."""
    return SPECIAL_TOKENS_AT_END.sub("", content) if isinstance(content, str) else content["dialog"].strip()


def describe_turn(message: Message) -> dict[str, str | None]:
    """A message for the page of a report."""
    content = message["content"]
    return {"role": message["role"], "emotion": get_emotion(content), "text": get_reply_text(content)}


def get_prompt_text(pair: Pair) -> str:
    """A text prompt as it is, or the words of all messages and the target emotion, a line each."""
    if isinstance(pair.prompt, str):
        return pair.prompt
    lines = [get_reply_text(message["content"]) for message in pair.prompt]
    return "\n".join([*lines, get_emotion(pair.chosen) or ""])


def find_target_emotion(pair: Pair, labels: Labels) -> str | None:
    """The label that the reply should have: that of the chosen message, or the one at the end of a text prompt; None
    without labels."""
    if not isinstance(pair.prompt, str):
        return get_emotion(pair.chosen)
    match = compile_label_at_end(labels.names).search(pair.prompt) if labels else None
    return match[1] if match else None


@cache
def compile_label_at_end(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)\W*(?:\[/EMOTION\])?\s*$")
