"""Writes replies without a model, for tests of what is done with replies."""

from tiny_models import EMOTION_LABELS

from response_generator.chat.dialogue import Conversation
from response_generator.chat.reply import Labels, Reply


class StubWriter:
    """A reply names its adapter, its seed and the number of messages before it."""

    names = ("SFT", "DPO", "base")
    label_set = EMOTION_LABELS

    def __init__(self):
        self.histories = []

    def find_emotion(self, text: str) -> str:
        return "happiness" if "!" in text else "sadness"

    def write(self, history, emotion, name, seed, show) -> Reply:
        self.histories.append(history)
        response = f"{name} with seed {seed} after {len(history)}"
        for word in response.split(" "):
            show(name, word)
        labels = Labels("anger", 0.75, 0.75 if emotion == "anger" else 0.125, "clean", 0.5)
        return Reply(name, emotion, seed, response, 7, False, 0, labels)


def start_dialogue(writer=None, emotion="neutral", my_emotion=None, seed=42) -> Conversation:
    return Conversation(writer or StubWriter(), emotion, my_emotion, seed)


def ignore(name: str, text: str) -> None:
    """A ShowText that shows nothing."""
