"""Dialogues cut into prompts."""

from collections import Counter

import pytest
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.datasets import Dialogue
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.preferences.windows import TOO_SHORT, cut_windows


class Args:
    """The arguments that cutting reads."""

    seed = 3

    def __init__(
        self,
        history_turns=3,
        keep_short_dialogues=False,
        windows="last",
        skip_bad_rows=False,
        target_emotions="gold",
        labels=EMOTION_LABELS,
    ):
        self.history_turns, self.keep_short_dialogues, self.windows = history_turns, keep_short_dialogues, windows
        self.target_emotions, self.label_set = target_emotions, labels
        self.dataset = DatasetArguments(path="./rows.jsonl", skip_bad_rows=skip_bad_rows)


def make_dialogue(index: int, turns: int) -> Dialogue:
    """Turns t0 to tn; every turn of the assistant is happy."""
    history = [
        {
            "role": "assistant" if number % 2 else "user",
            "content": {"emotion": "happiness" if number % 2 else "neutral", "dialog": f"t{number}"},
        }
        for number in range(turns - 1)
    ]
    return Dialogue(index, history, "happiness", f"t{turns - 1}")


def texts(windows) -> list[tuple]:
    return [
        (window.index, [turn["content"]["dialog"] for turn in window.history], window.target_emotion)
        + (window.gold_response,)
        for window in windows
    ]


def test_a_system_message_stays_and_is_no_turn():
    whole = make_dialogue(0, 6)
    system = {"role": "system", "content": "Be kind ."}
    windows, _ = cut_windows([Dialogue(0, [system, *whole.history], "happiness", "t5")], Args(windows="all"))
    assert [window.history[0] for window in windows] == [system, system]
    without = [Dialogue(window.index, window.history[1:], "happiness", window.gold_response) for window in windows]
    assert without == cut_windows([whole], Args(windows="all"))[0]


def test_the_last_turns_before_the_last_reply():
    windows, skipped = cut_windows([make_dialogue(7, 6), make_dialogue(9, 4)], Args())
    assert texts(windows) == [
        (0, ["t2", "t3", "t4"], "happiness", "t5"),
        (1, ["t0", "t1", "t2"], "happiness", "t3"),
    ]
    assert not skipped


def test_a_window_for_every_reply():
    windows, _ = cut_windows([make_dialogue(0, 6)], Args(windows="all"))
    assert [gold for *_, gold in texts(windows)] == ["t3", "t5"]  # the first reply has one turn before it
    windows, _ = cut_windows([make_dialogue(0, 6)], Args(windows="all", keep_short_dialogues=True))
    assert [history for _, history, *_ in texts(windows)] == [["t0"], ["t0", "t1", "t2"], ["t2", "t3", "t4"]]
    windows, _ = cut_windows([make_dialogue(0, 6)], Args(history_turns="all"))
    assert texts(windows)[0][1] == ["t0", "t1", "t2", "t3", "t4"]


def test_short_dialogues_are_refused_kept_or_left_out():
    dialogues = [make_dialogue(0, 4), make_dialogue(1, 2)]
    with pytest.raises(InputError, match="row 1: has 1 turn\\(s\\) before its last reply, fewer than history_turns"):
        cut_windows(dialogues, Args())
    windows, _ = cut_windows(dialogues, Args(keep_short_dialogues=True))
    assert [window.gold_response for window in windows] == ["t3", "t1"]
    windows, skipped = cut_windows(dialogues, Args(skip_bad_rows=True))
    assert [window.gold_response for window in windows] == ["t3"]
    assert skipped == {TOO_SHORT: 1}
    with pytest.raises(InputError, match="fewer than history_turns"):
        cut_windows(dialogues[1:], Args(skip_bad_rows=True))


def test_balanced_targets_leave_the_history_as_it_is():
    dialogues = [make_dialogue(index, 4) for index in range(16)]
    gold, _ = cut_windows(dialogues, Args())
    balanced, _ = cut_windows(dialogues, Args(target_emotions="balanced"))
    counts = Counter(window.target_emotion for window in balanced)
    assert counts.keys() == set(EMOTION_LABELS.names)
    assert sorted(counts.values()) == [2, 2, 2, 2, 2, 3, 3]
    assert [window.history for window in balanced] == [window.history for window in gold]
    # Not the first prompt with the first emotion, and so on: the order of a data set may follow its emotions.
    assert [window.target_emotion for window in balanced[:7]] != list(EMOTION_LABELS.names)
    again, _ = cut_windows(dialogues, Args(target_emotions="balanced"))
    assert again == balanced


def test_balanced_targets_are_the_labels_of_the_run():
    dialogues = [make_dialogue(index, 4) for index in range(5)]
    labels = Labels(("polite", "rude"), None)
    balanced, _ = cut_windows(dialogues, Args(target_emotions="balanced", labels=labels))
    assert Counter(window.target_emotion for window in balanced) == {"polite": 3, "rude": 2}
