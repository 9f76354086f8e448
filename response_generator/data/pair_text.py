"""The plain text of a pair, whether its prompt is rendered text or a list of messages."""

import re

from response_generator.constants import EMOTIONS
from response_generator.data.datasets import Content, Message, Pair

SPECIAL_TOKENS_AT_END = re.compile(r"(?:\s|<[^<>\s]+>)+$")  # for example </s> or <|im_end|>
EMOTION_AT_END = re.compile(rf"\b({'|'.join(EMOTIONS)})\b\W*(?:\[/EMOTION\])?\s*$")


def get_reply_text(content: Content) -> str:
    """The words of a reply, without special tokens and spaces at its end."""
    return SPECIAL_TOKENS_AT_END.sub("", content) if isinstance(content, str) else content["dialog"].strip()


def describe_turn(message: Message) -> dict[str, str | None]:
    """A message for the page of a report."""
    content = message["content"]
    emotion = content["emotion"] if isinstance(content, dict) else None
    return {"role": message["role"], "emotion": emotion, "text": get_reply_text(content)}


def get_prompt_text(pair: Pair) -> str:
    """A text prompt as it is, or the words of all messages and the target emotion, a line each."""
    if isinstance(pair.prompt, str):
        return pair.prompt
    lines = [get_reply_text(message["content"]) for message in pair.prompt]
    return "\n".join([*lines, find_target_emotion(pair) or ""])


def find_target_emotion(pair: Pair) -> str | None:
    """The emotion that the reply should have: that of the chosen message, or the last word of a text prompt."""
    if isinstance(pair.prompt, str):
        match = EMOTION_AT_END.search(pair.prompt)
        return match[1] if match else None
    return pair.chosen["emotion"] if isinstance(pair.chosen, dict) else None
