"""Writes replies without a model, for tests of what is done with replies."""

from tiny_models import EMOTION_LABELS

from response_generator.chat.dialogue import Conversation
from response_generator.chat.reply import FoundLabels, Reply
from response_generator.labels import Labels


class StubWriter:
    """A reply names its adapter, its seed and the number of messages before it. Its classifier knows the emotions alone
    in messages, and finds the second label in every reply."""

    names = ("SFT", "DPO", "base")
    wait_note = ""

    def __init__(self, labels: Labels = EMOTION_LABELS):
        self.label_set = labels
        self.histories = []

    def find_emotion(self, text: str) -> str | None:
        if self.label_set != EMOTION_LABELS:
            return None
        return "happiness" if "!" in text else "sadness"

    def write(self, history, emotion, name, seed, show) -> Reply:
        self.histories.append(history)
        response = f"{name} with seed {seed} after {len(history)}"
        for word in response.split(" "):
            show(name, word)
        labels = None
        if self.label_set:
            found = self.label_set.names[1]
            labels = FoundLabels(found, 0.75, 0.75 if emotion == found else 0.125, "clean", 0.5)
        return Reply(name, emotion, seed, response, 7, False, 0, labels)


def start_dialogue(writer=None, user_emotion=None, seed=42) -> Conversation:
    return Conversation(writer or StubWriter(), None, user_emotion, seed)


def ignore(name: str, text: str) -> None:
    """A ShowText that shows nothing."""
