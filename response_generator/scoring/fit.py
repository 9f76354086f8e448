"""How well replies fit their own dialogues: whether a plain language model, which is asked for no emotion, expects them
more there than in other dialogues with the same target."""

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from response_generator.config.scoring_schema import FitScoringArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.data.datasets import Message
from response_generator.data.pair_text import get_reply_text
from response_generator.errors import InputError
from response_generator.generation.generation_requests import Tokens
from response_generator.modeling.base_config import build_meta_model
from response_generator.modeling.base_model import load_plain
from response_generator.scoring.classifiers import describe_load_error
from response_generator.scoring.context_logps import compute_logps

MAX_CONTEXT_TOKENS, MAX_REPLY_TOKENS = 120, 256
SPEAKERS = {"user": "A", "assistant": "B"}
REPLY_START = "B:"

Histories = Mapping[int, Sequence[Message]]  # the turns before the reply, by the index of the dialogue
Asked = tuple[int, str | None]  # a dialogue, by its index, and the target of a reply to it


@dataclass(frozen=True)
class Reply:
    """A reply to the dialogue `index`. target: the label that it was to have; None without labels."""

    index: int
    target: str | None
    text: str


@dataclass(frozen=True)
class Fit:
    """nats: a token of the reply. is_first: it is more probable in its own dialogue than in each of the others."""

    nats: float
    is_first: bool


def check_fit_model(scoring: FitScoringArguments, histories: Histories) -> None:
    """Checks configuration and tokenizer of the model, and that there are enough other dialogues. Its weights are
    not loaded yet.

    Raises:
        InputError: when the model cannot be read, or a dialogue has too few others.
    """
    name = scoring.fit_model
    try:
        build_meta_model(AutoConfig.from_pretrained(**from_pretrained_keywords(name)))
        contexts = encode_contexts(load_tokenizer(name), histories)
    except Exception as error:  # transformers and tokenizers raise exceptions of many types
        raise InputError(f"scoring.fit_model: {name}: {describe_load_error(error)}") from error
    fewest = len(contexts) - max(Counter(map(tuple, contexts.values())).values())
    if fewest < scoring.fit_dialogues:
        raise InputError(
            f"scoring.fit_dialogues: got {scoring.fit_dialogues}; the data has {len(contexts)} dialogues, and one of "
            f"them only {fewest} others; allowed: numbers up to that; or set scoring.fit_model to null"
        )


def find_greatest_fit(scoring: FitScoringArguments) -> float:
    """What no reply's fit exceeds, in nats a token."""
    return math.log(1 + scoring.fit_dialogues)


class FitMeter:
    """Measures the fit of replies, with a model that is loaded once.

    The fit is log p(reply | its own dialogue) minus the log of the mean of p(reply | dialogue) over its own and
    `fit_dialogues` other dialogues, where log p is the mean over the reply's tokens. So it is 0 where the dialogue does
    not matter, and log(1 + fit_dialogues) at most. A reply without words has 0, and is not first.
    """

    def __init__(self, scoring: FitScoringArguments, seed: int, histories: Histories, asked: Collection[Asked]):
        """
        Args:
            seed: draws the other dialogues, the same for all replies with one index and target.
            asked: of all replies of the data, whichever of them are measured at once.
        """
        self.tokenizer = load_tokenizer(scoring.fit_model)
        self.contexts = encode_contexts(self.tokenizer, histories)
        self.others = OtherDialogues(self.contexts, asked, scoring.fit_dialogues, seed)
        self.model = load_plain(scoring.fit_model)

    def measure(self, replies: Sequence[Reply], task: str | None = None) -> list[Fit]:
        """The fit of each reply.

        Args:
            task: the title of a progress bar; without one there is no bar.
        """
        tokens = [tuple(encode_reply(self.tokenizer, reply.text)) for reply in replies]
        drawn = {asked: self.others.draw(*asked) for asked in {(reply.index, reply.target) for reply in replies}}
        dialogues = [(reply.index, *drawn[reply.index, reply.target]) for reply in replies]
        tried: dict[int, set[tuple[int, ...]]] = {}  # the same words once
        for ids, indices in zip(tokens, dialogues, strict=True):
            for index in indices if ids else ():
                tried.setdefault(index, set()).add(ids)
        found = self.compute_logps({index: sorted(tried[index]) for index in sorted(tried)}, task)
        return [
            compare_dialogues(np.array([found[index, ids] for index in indices]) / len(ids)) if ids else Fit(0.0, False)
            for ids, indices in zip(tokens, dialogues, strict=True)
        ]

    def compute_logps(
        self, by_dialogue: Mapping[int, Sequence[tuple[int, ...]]], task: str | None
    ) -> dict[tuple[int, tuple[int, ...]], float]:
        """The log-probability (nats) of each reply in a dialogue, summed over its tokens, by dialogue and reply."""
        replies = [[list(ids) for ids in each] for each in by_dialogue.values()]
        contexts = [self.contexts[index] for index in by_dialogue]
        total = sum(map(len, replies))
        with tqdm(total=total, desc=task, unit="text", dynamic_ncols=True, disable=task is None) as bar:
            logps = compute_logps(self.model, contexts, replies, bar.update)
        return {
            (index, ids): logp
            for (index, each), of_each in zip(by_dialogue.items(), logps, strict=True)
            for ids, logp in zip(each, of_each, strict=True)
        }


def compare_dialogues(logps: np.ndarray) -> Fit:
    """
    Args:
        logps: mean log-probability (nats) of a reply's tokens in each dialogue, its own first, (dialogues,).
    """
    mean = np.logaddexp.reduce(logps) - np.log(len(logps))
    return Fit(float(logps[0] - mean), bool((logps[0] > logps[1:]).all()))


class OtherDialogues:
    """Draws the dialogues that a reply is also tried in, from those with a reply to the same target, or from all where
    these are too few.

    asked: of all replies of the data. The draw depends on these, the seed, the index and the target alone.
    """

    def __init__(self, contexts: Mapping[int, Tokens], asked: Collection[Asked], count: int, seed: int):
        self.contexts, self.count, self.seed = contexts, count, seed
        self.indices: dict[str | None, list[int]] = {}
        for index, target in sorted(set(asked), key=lambda each: each[0]):
            self.indices.setdefault(target, []).append(index)

    def draw(self, index: int, target: str | None) -> list[int]:
        others = list_others(index, self.indices[target], self.contexts)
        if len(others) < self.count:
            others = list_others(index, sorted(self.contexts), self.contexts)
        return random.Random(f"{self.seed} {index} {target}").sample(others, self.count)


def list_others(index: int, indices: Sequence[int], contexts: Mapping[int, Tokens]) -> list[int]:
    """Dialogues whose context is another one."""
    return [other for other in indices if contexts[other] != contexts[index]]


def encode_contexts(tokenizer: PreTrainedTokenizerBase, histories: Histories) -> dict[int, Tokens]:
    """The last MAX_CONTEXT_TOKENS of each dialogue up to its reply, as "A: …\\nB: …\\nA: …\\nB:", after the tokenizer's
    BOS if it writes one. System messages and labels are not in it."""
    start = tokenizer("A").input_ids[:1]
    start = start if start == [tokenizer.bos_token_id] else []
    return {
        index: start + tokenizer(render_context(history), add_special_tokens=False).input_ids[-MAX_CONTEXT_TOKENS:]
        for index, history in histories.items()
    }


def render_context(history: Sequence[Message]) -> str:
    turns = [
        f"{SPEAKERS[turn['role']]}: {get_reply_text(turn['content'])}" for turn in history if turn["role"] in SPEAKERS
    ]
    return "\n".join([*turns, REPLY_START])


def encode_reply(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """The first MAX_REPLY_TOKENS of a reply as they are after REPLY_START; none of a reply without words."""
    if not text.strip():
        return []
    start, whole = (
        tokenizer(each, add_special_tokens=False).input_ids for each in (REPLY_START, f"{REPLY_START} {text}")
    )
    return whole[len(start) :][:MAX_REPLY_TOKENS]


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(**from_pretrained_keywords(model))
