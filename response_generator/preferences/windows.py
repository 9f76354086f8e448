"""Cuts dialogues into prompts: some turns of history, and a reply of the assistant that is to be written."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from response_generator.config.preference_schema import ALL_TURNS, PreferenceDataArguments
from response_generator.data.datasets import Dialogue, Skipped, get_emotion, get_text
from response_generator.errors import raise_row_errors
from response_generator.labels import Labels

TOO_SHORT = "fewer turns than history_turns"


def cut_windows(dialogues: Sequence[Dialogue], args: PreferenceDataArguments) -> tuple[list[Dialogue], Skipped]:
    """The prompts of all dialogues, numbered from 0 on, and how many dialogues `dataset.skip_bad_rows` leaves out.

    Raises:
        InputError: with the dialogues that have fewer turns than `history_turns`, unless they are kept or left out; or
            when no prompt is left.
    """
    windows: list[Dialogue] = []
    errors, skipped = [], Counter()
    for dialogue in dialogues:
        found = list(list_windows(dialogue, args))
        if not found:
            errors.append(
                f"dataset, row {dialogue.index}: has {len(dialogue.history)} turn(s) before its last reply, fewer than "
                f"history_turns ({args.history_turns}); set keep_short_dialogues: true to use it as it is, or "
                f"dataset.skip_bad_rows: true to leave such rows out"
            )
            skipped[TOO_SHORT] += 1
        windows += found
    if not windows or not args.dataset.skip_bad_rows:
        raise_row_errors("dataset", errors)
    prompts = [Dialogue(index, *window) for index, window in enumerate(windows)]
    if args.target_emotions == "balanced":
        prompts = balance_targets(prompts, args.label_set, args.seed)
    return prompts, skipped


def balance_targets(prompts: Sequence[Dialogue], labels: Labels, seed: int) -> list[Dialogue]:
    """The prompts with other targets: each label equally often, but for a rest, in random order."""
    targets = [labels.names[place % len(labels.names)] for place in range(len(prompts))]
    random.Random(seed).shuffle(targets)
    return [prompt.ask_for(target) for prompt, target in zip(prompts, targets, strict=True)]


def list_windows(dialogue: Dialogue, args: PreferenceDataArguments) -> Iterator[tuple]:
    """The history, target emotion and gold reply of each window."""
    turns = [*dialogue.history, {"role": "assistant", "content": dialogue.gold_content}]
    system = [turns.pop(0)] if turns[0]["role"] == "system" else []
    ends = range(1, len(turns), 2) if args.windows == "all" else [len(turns) - 1]
    for end in ends:
        length = end if args.history_turns == ALL_TURNS else min(end, args.history_turns)
        if args.history_turns in (ALL_TURNS, length) or args.keep_short_dialogues:
            reply = turns[end]["content"]
            yield [*system, *turns[end - length : end]], get_emotion(reply), get_text(reply)
