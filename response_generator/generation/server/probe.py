"""What a server does differently from this program, found out before the first reply: whether it applies the adapters,
whether it has log-probabilities, and whether it keeps a seed."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from response_generator.config.schema import ServerArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest, SamplingParams, Tokens
from response_generator.generation.server import served_models
from response_generator.generation.server.client import ServerClient
from response_generator.generation.server.completions import LOGPROBS, ServedModel
from response_generator.generation.server.facts import show_server

PROBE_REQUESTS, PROBE_TOKENS = 4, 16
MIN_LOGP_GAP = 0.001  # nats, besides twice what the same model differs by when it is asked again


@dataclass(frozen=True)
class ServerModels:
    """names: what the server calls the models, by their keys in the args. bases: those of them that are to be the bare
    base model."""

    names: dict[str, str]
    bases: frozenset[str]


@dataclass(frozen=True)
class Measured:
    """What a model does with the probe's prompts: its most probable replies, and the log-probability (nats) of each
    prompt's second half; empty where the server has none."""

    replies: list[Tokens]
    logps: list[float]

    def find_largest_gap(self, other: "Measured") -> float:
        return max((abs(one - two) for one, two in zip(self.logps, other.logps, strict=True)), default=0.0)

    def count_other_replies(self, other: "Measured") -> int:
        return sum(one != two for one, two in zip(self.replies, other.replies, strict=True))


def examine_server(
    server: ServerArguments,
    models: ServerModels,
    requests: Sequence[GenerationRequest],
    lengths: Sequence[int],
    formatter: ChatFormatter,
    params: SamplingParams | None,
) -> dict[str, Any]:
    """What `check_server` finds and, with the settings of the run, `probe_server`; it is also printed."""
    with ServerClient(server) as client:
        facts = check_server(client, models, requests, lengths, formatter)
        if params:
            facts |= probe_server(client, server, models, requests, params)
    show_server(facts)
    return facts


def check_server(
    client: ServerClient,
    models: ServerModels,
    requests: Sequence[GenerationRequest],
    lengths: Sequence[int],
    formatter: ChatFormatter,
) -> dict[str, Any]:
    """Checks what can be checked without generating, and returns the facts for environment.json.

    Args:
        lengths: tokens of each prompt with its longest completion.

    Raises:
        InputError: with what is wrong.
    """
    cards = served_models.list_models(client)
    served_models.check_names(cards, models.names)
    context = served_models.find_context(cards, list(models.names.values()))
    served_models.check_server_context(lengths, context)
    compared = {
        served_models.check_tokens(client, name, requests, formatter) for name in sorted(set(models.names.values()))
    }
    return {
        "version": served_models.read_version(client),
        "models": {name: cards[name].root for name in models.names.values()},
        "context": context,
        "same_tokens_by": ", ".join(sorted(compared)),
    }


def probe_server(
    client: ServerClient,
    server: ServerArguments,
    models: ServerModels,
    requests: Sequence[GenerationRequest],
    params: SamplingParams,
) -> dict[str, Any]:
    """Lets the server write a few replies, and returns the facts for environment.json.

    Args:
        requests: the first ones are tried. params: the settings of the run.

    Raises:
        InputError: when an adapter is not applied, or the server returns no token ids.
    """
    requests = requests[:PROBE_REQUESTS]
    first = next(iter(models.names.values()))
    model = ServedModel(client, first, send_seed=False)
    logprobs = find_logprobs(model, requests[0]) if server.logprobs else None
    return {
        "logprobs": logprobs,
        "adapters_applied": check_adapters(client, models, requests, params, logprobs),
        "seed": find_seed_use(ServedModel(client, first, server.send_seed), requests[0], params),
    }


def find_logprobs(model: ServedModel, request: GenerationRequest) -> str | None:
    """How the server tells the log-probabilities of given tokens; None where it does not."""
    return next((way for way in LOGPROBS if model.has_logprobs(request.prompt_ids, way)), None)


def check_adapters(
    client: ServerClient,
    models: ServerModels,
    requests: Sequence[GenerationRequest],
    params: SamplingParams,
    logprobs: str | None,
) -> dict[str, str]:
    """Compares every two models of the run, and each adapter with the base model of the server.

    Returns:
        What was found, by the names of both models; empty where the server has no other model.

    Raises:
        InputError: when two models do the same.
    """
    cards = served_models.list_models(client)
    measured: dict[str, Measured] = {}

    def measure(name: str) -> Measured:
        return measure_model(ServedModel(client, name, send_seed=False, logprobs=logprobs), requests, params)

    found = {}
    for key, name, other in list_pairs(models, cards):
        for each in (name, other):
            measured[each] = measured.get(each) or measure(each)
        one, two = measured[name], measured[other]
        replies, gap = one.count_other_replies(two), one.find_largest_gap(two)
        if not replies and gap <= MIN_LOGP_GAP + 2 * one.find_largest_gap(measure(name)):
            raise InputError(
                f"{key}: {name} and {other} write the same replies{describe_gap(gap, logprobs)} on the server: an "
                f"adapter is not applied; check how the server was started (vLLM: --enable-lora --lora-modules "
                f"NAME=FOLDER), and that the names mean what the args say"
            )
        found[f"{name} beside {other}"] = (
            f"{replies} of {len(requests)} greedy replies differ{describe_gap(gap, logprobs)}"
        )
    return found


def describe_gap(gap: float, logprobs: str | None) -> str:
    return f", log-probabilities by up to {gap:.3g} nats" if logprobs else ""


def list_pairs(models: ServerModels, cards: dict[str, served_models.ServedCard]) -> list[tuple[str, str, str]]:
    """`(key, model, other model)` of those that have to differ."""
    pairs = [(key, name, other) for (key, name), (_, other) in combinations(models.names.items(), 2)]
    for key, name in models.names.items():
        parent = cards[name].parent
        bases = [parent] if parent else [card.name for card in cards.values() if card.parent is None]
        for base in bases[:1]:
            known = {name, base} in [{one, other} for _, one, other in pairs]
            if name not in models.bases and base in cards and base != name and not known:
                pairs.append((key, name, base))
    return pairs


def measure_model(model: ServedModel, requests: Sequence[GenerationRequest], params: SamplingParams) -> Measured:
    config = copy.deepcopy(params.config)
    config.do_sample, config.max_new_tokens, config.min_new_tokens = False, PROBE_TOKENS, 1
    greedy = SamplingParams(config, params.seed, samples=1)
    replies = [model.sample(request, greedy)[0] for request in requests]
    logps = [model.compute_logp(*halves) for halves in split_prompts(requests)] if model.logprobs else []
    return Measured(replies, logps)


def split_prompts(requests: Sequence[GenerationRequest]) -> list[tuple[Tokens, Tokens]]:
    """Both halves of each prompt, as a text whose log-probability is known whatever the run is about."""
    lengths = [request.length // 2 for request in requests]
    return [
        (request.prompt_ids[:half], request.prompt_ids[half:]) for request, half in zip(requests, lengths, strict=True)
    ]


def find_seed_use(model: ServedModel, request: GenerationRequest, params: SamplingParams) -> str:
    """Whether the same seed gives the same reply."""
    if not model.send_seed:
        return "not sent: the replies cannot be written again"
    one, two = (model.sample(request, params) for _ in range(2))
    return "kept" if one == two else "not kept: the replies cannot be written again"
