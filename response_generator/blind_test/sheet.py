"""The sheet of a blind test: which replies are compared, in which order and on which side, and the key to it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from response_generator.blind_test.compared_replies import ComparedReplies, Place
from response_generator.errors import InputError

SIDES = ("A", "B")
EQUAL, CANNOT_TELL = "equally good", "cannot tell"
PREFERENCE = "preference"  # the question
ID_CHARACTERS = 16


@dataclass(frozen=True)
class Question:
    """name: of its answer. title: as it is asked. options: the answers that may be given, the last one CANNOT_TELL."""

    name: str
    title: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class SheetPair:
    """Two replies to one prompt. models: those whose replies are A and B."""

    place: Place
    models: tuple[str, str]

    def to_record(self) -> dict[str, Any]:
        index, target, sample = self.place
        return {
            "index": index,
            "target_emotion": target,
            "sample": sample,
            **dict(zip(SIDES, self.models, strict=True)),
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "SheetPair":
        return cls((record["index"], record["target_emotion"], record["sample"]), tuple(record[side] for side in SIDES))


@dataclass(frozen=True)
class Sheet:
    """pairs: in the order in which they are shown."""

    replies: ComparedReplies
    seed: int
    pairs: list[SheetPair]

    @cached_property
    def id(self) -> str:
        """The same for the same models, seed, and pairs with their sides."""
        content = json.dumps([self.seed, self.replies.models, self.list_shown_pairs()])
        return hashlib.sha256(content.encode()).hexdigest()[:ID_CHARACTERS]

    @cached_property
    def questions(self) -> list[Question]:
        labels = self.replies.labels
        by_reply = [
            Question(
                name_label_question(side), f"Reply {side}: which {labels.noun} is it?", (*labels.names, CANNOT_TELL)
            )
            for side in SIDES
            if labels
        ]
        options = (*SIDES, EQUAL, CANNOT_TELL)
        return [*by_reply, Question(PREFERENCE, "Which reply fits the dialogue better?", options)]

    def list_shown_pairs(self) -> list[dict[str, Any]]:
        """What a rater sees: the turns of each dialogue as (role, text), and replies A and B. Nothing tells the models
        or the target."""
        shown = []
        for pair in self.pairs:
            rows = self.replies.rows
            history = rows[pair.models[0]][pair.place]["history"]
            shown.append(
                {
                    "turns": [(turn["role"], read_text(turn["content"])) for turn in history],
                    "replies": [rows[model][pair.place]["response"] for model in pair.models],
                }
            )
        return shown

    def to_key(self) -> dict[str, Any]:
        """For key.json: all that the page must not tell."""
        records = [pair.to_record() for pair in self.pairs]
        return {"sheet": self.id, "models": self.replies.models, "seed": self.seed, "pairs": records}

    def count_targets(self) -> Counter:
        return Counter(pair.place[1] for pair in self.pairs if pair.place[1] is not None)


def name_label_question(side: str) -> str:
    return f"label_{side}"


def read_text(content: str | Mapping[str, str]) -> str:
    return content if isinstance(content, str) else content["dialog"]


def draw_sheet(replies: ComparedReplies, count: int, seed: int) -> Sheet:
    """Draws prompts at random, each target as often as the others as far as there are prompts, and one sample of each.

    The order is random. Each model is reply A in half of the pairs, at random. Pairs of identical replies are left out.

    Raises:
        InputError: when all replies are identical, or a label is the same text as an answer.
    """
    if CANNOT_TELL in replies.labels.names:
        raise InputError(
            f"labels: {CANNOT_TELL!r} is the answer of a rater who is not sure; name the label differently"
        )
    prompts = replies.list_differing_prompts()
    if not prompts:
        raise InputError(
            f"the replies of {' and '.join(replies.models)} are all identical; there is nothing to compare"
        )
    random = np.random.default_rng(seed)
    places = [list(samples)[random.integers(len(samples))] for samples in prompts.values()]
    chosen = draw_evenly(places, count, random)
    models = replies.models
    swapped = random.permutation(np.arange(len(chosen)) % 2)
    sides = [(models[swap], models[1 - swap]) for swap in swapped]
    return Sheet(replies, seed, [SheetPair(place, each) for place, each in zip(chosen, sides, strict=True)])


def draw_evenly(places: list[Place], count: int, random: np.random.Generator) -> list[Place]:
    """Up to `count` of the places in random order: one of each target in turn, until there are enough."""
    by_target: dict[str | None, list[Place]] = {}
    for at in random.permutation(len(places)):
        by_target.setdefault(places[at][1], []).append(places[at])
    rounds = max(map(len, by_target.values()))
    chosen = [found[turn] for turn in range(rounds) for found in by_target.values() if turn < len(found)][:count]
    return [chosen[at] for at in random.permutation(len(chosen))]
