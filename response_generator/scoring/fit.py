"""How well replies fit their own dialogues: whether a plain language model, which is asked for no emotion, expects them
more there than in other dialogues with the same target."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from response_generator.config.scoring_schema import EvaluationScoringArguments
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


def check_fit_model(scoring: EvaluationScoringArguments, histories: Histories) -> None:
    """Checks configuration and tokenizer of the model, and that there are enough other dialogues. Its weights are
    loaded only after all replies have been generated.

    Raises:
        InputError: when the model cannot be read, or a dialogue has too few others.
    """
    name = scoring.fit_model
    try:
        build_meta_model(AutoConfig.from_pretrained(**from_pretrained_keywords(name)))
        contexts = encode_contexts(load_tokenizer(name), histories)
    except Exception as error:  # transformers and tokenizers raise exceptions of many types
        raise InputError(f"scoring.fit_model: {name}: {describe_load_error(error)}") from error
    fewest = min(len(list_others(index, contexts, contexts)) for index in contexts)
    if fewest < scoring.fit_dialogues:
        raise InputError(
            f"scoring.fit_dialogues: got {scoring.fit_dialogues}; the data has {len(contexts)} dialogues, and one of "
            f"them only {fewest} others; allowed: numbers up to that; or set scoring.fit_model to null"
        )


def measure_fit(
    scoring: EvaluationScoringArguments, seed: int, histories: Histories, replies: Sequence[Reply]
) -> list[Fit]:
    """The fit of each reply: log p(reply | its own dialogue) minus the log of the mean of p(reply | dialogue) over its
    own and `fit_dialogues` other dialogues, where log p is the mean over the reply's tokens.

    So it is 0 where the dialogue does not matter, and log(1 + fit_dialogues) at most. A reply without words has 0, and
    is not first.

    Args:
        seed: draws the other dialogues, the same for all replies with one index and target.
    """
    tokenizer = load_tokenizer(scoring.fit_model)
    contexts = encode_contexts(tokenizer, histories)
    tokens = [tuple(encode_reply(tokenizer, reply.text)) for reply in replies]
    drawn = draw_dialogues(contexts, replies, scoring.fit_dialogues, seed)
    dialogues = [(reply.index, *drawn[reply.index, reply.target]) for reply in replies]
    tried: dict[int, set[tuple[int, ...]]] = {index: set() for index in contexts}  # the same words once
    for ids, indices in zip(tokens, dialogues, strict=True):
        for index in indices if ids else ():
            tried[index].add(ids)
    by_dialogue = {index: sorted(each) for index, each in tried.items()}
    model = load_plain(scoring.fit_model)
    with tqdm(total=sum(map(len, tried.values())), desc="fit", unit="text", dynamic_ncols=True) as bar:
        replies = [[list(ids) for ids in each] for each in by_dialogue.values()]
        logps = compute_logps(model, list(contexts.values()), replies, bar.update)
    found = {
        (index, ids): logp
        for (index, each), of_each in zip(by_dialogue.items(), logps, strict=True)
        for ids, logp in zip(each, of_each, strict=True)
    }
    return [
        compare_dialogues(np.array([found[index, ids] for index in indices]) / len(ids)) if ids else Fit(0.0, False)
        for ids, indices in zip(tokens, dialogues, strict=True)
    ]


def compare_dialogues(logps: np.ndarray) -> Fit:
    """
    Args:
        logps: mean log-probability (nats) of a reply's tokens in each dialogue, its own first, (dialogues,).
    """
    mean = np.logaddexp.reduce(logps) - np.log(len(logps))
    return Fit(float(logps[0] - mean), bool((logps[0] > logps[1:]).all()))


def draw_dialogues(
    contexts: Mapping[int, Tokens], replies: Sequence[Reply], count: int, seed: int
) -> dict[tuple[int, str | None], list[int]]:
    """Draws `count` other dialogues for each index and target, from those with a reply to the same target, or from all
    where these are too few."""
    indices: dict[str | None, set[int]] = {}
    for reply in replies:
        indices.setdefault(reply.target, set()).add(reply.index)
    drawn = {}
    for index, target in sorted({(reply.index, reply.target) for reply in replies}, key=str):
        others = list_others(index, sorted(indices[target]), contexts)
        if len(others) < count:
            others = list_others(index, sorted(contexts), contexts)
        drawn[index, target] = random.Random(f"{seed} {index} {target}").sample(others, count)
    return drawn


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
