"""What the page of the chat and the server send each other, as JSON."""

from typing import Any

from response_generator.chat.dialogue import Conversation
from response_generator.config.chat_schema import AUTO_EMOTION
from response_generator.config.section import Section


class ActionRequest(Section):
    """The body of a POST: what the user does in one dialogue."""

    dialogue: str = ""
    """Its id, except to open a new one."""
    text: str = ""
    """A message."""
    seed: int | None = None
    """Seed of another reply."""
    emotion: str | None = None
    """Target label of the next replies."""
    user_emotion: str | None = None
    """Label of the next messages, or "auto"."""
    adapter: str | None = None
    """Adapter of the next replies; with /choose, the adapter whose reply continues the dialogue."""
    all_adapters: bool = False
    """Whether all adapters reply to a new message."""


def change_settings(dialogue: Conversation, request: ActionRequest) -> None:
    if request.emotion is not None:
        dialogue.set_emotion(request.emotion)
    if request.user_emotion is not None:
        dialogue.set_user_emotion(request.user_emotion)
    if request.adapter is not None:
        dialogue.set_adapter(request.adapter)


def describe_dialogue(name: str, dialogue: Conversation) -> dict[str, Any]:
    """All that the page shows."""
    names = dialogue.labels.names
    return {
        "dialogue": name,
        "adapters": dialogue.adapters,
        "emotions": names,
        "user_emotions": (AUTO_EMOTION, *names) if names else (),
        "adapter": dialogue.adapter,
        "emotion": dialogue.emotion,
        "user_emotion": dialogue.user_emotion or AUTO_EMOTION,
        "wait_note": dialogue.wait_note,
        "turns": [
            {
                "emotion": turn.emotion,
                "text": turn.text,
                "chosen": turn.chosen,
                "replies": [
                    {
                        "adapter": reply.adapter,
                        "text": reply.response,
                        "facts": reply.describe(),
                        "is_followed": reply.is_followed,
                    }
                    for reply in turn.replies.values()
                ],
            }
            for turn in dialogue.turns
        ],
    }
