"""What a server is asked for: replies to a prompt, and the log-probability of a completion.

Prompts go and replies come as token ids, so that they are those of training. What is sent besides the fields of
OpenAI's API are parameters of vLLM, which SGLang also knows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig

from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest, SamplingParams, Tokens
from response_generator.generation.method import find_unknown_settings
from response_generator.generation.server.client import BadAnswer, Refused, ServerClient
from response_generator.generation.with_generate import draw_seed, truncate_at_eos

COMPLETIONS = "/v1/completions"
STOP, LENGTH = "stop", "length"  # how a finished reply ended


def check_settings_of_server(config: GenerationConfig) -> None:
    """Raises InputError when a setting means something that is not asked of a server."""
    names = find_unknown_settings(config)
    if names:
        raise InputError(
            *(f'generation.{name}: cannot be used with generation_method "server"; remove it' for name in names)
        )


def build_sampling(config: GenerationConfig) -> dict[str, Any]:
    """The fields of a request that say how replies are written, as `config` does it here: a reply ends at the EOS of
    the run's tokenizer alone, whatever the server would take from the model's own generation_config.json."""
    drawn = {"temperature": 0.0, "top_k": -1, "top_p": 1.0}
    if config.do_sample:
        drawn = {"temperature": config.temperature, "top_k": config.top_k or -1, "top_p": config.top_p}
    return drawn | {
        "repetition_penalty": config.repetition_penalty,
        "max_tokens": config.max_new_tokens,
        "min_tokens": config.min_new_tokens or 0,
        "stop_token_ids": [config.eos_token_id],
        "ignore_eos": True,
        "return_token_ids": True,
    }


class ServedModel:
    """A model of a server, by its name there. logprobs: one of LOGPROBS, or None where it has none."""

    def __init__(self, client: ServerClient, name: str, send_seed: bool, logprobs: str | None = None):
        self.client, self.name, self.send_seed, self.logprobs = client, name, send_seed, logprobs

    def build_request(self, request: GenerationRequest, params: SamplingParams) -> dict[str, Any]:
        seed = draw_seed(params.seed, params.first_sample, request.dialogue.index)
        return {
            "model": self.name,
            "prompt": request.prompt_ids,
            "n": params.samples,
            **build_sampling(params.config),
            **({"seed": seed} if self.send_seed else {}),
        }

    def sample(self, request: GenerationRequest, params: SamplingParams) -> list[Tokens]:
        """The token ids of `params.samples` replies, with the EOS where a reply has one."""
        eos = params.config.eos_token_id

        def read(answer: dict[str, Any]) -> list[Tokens]:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            if [choice["index"] for choice in choices] != list(range(params.samples)):
                raise BadAnswer(f"has {len(choices)} replies; asked for {params.samples}")
            if any(choice.get("token_ids") is None for choice in choices):
                raise InputError(
                    f"server.url: {self.client.url}: returns no token_ids of its replies; needed: a server that knows "
                    f"return_token_ids, such as vLLM"
                )
            return [read_tokens(choice["token_ids"], choice["finish_reason"], eos) for choice in choices]

        return self.client.ask(COMPLETIONS, self.build_request(request, params), read)

    @contextmanager
    def stream(
        self, request: GenerationRequest, params: SamplingParams
    ) -> Iterator[Iterator[tuple[int, Tokens, str | None]]]:
        """The replies while they are written: the number of a reply, its next token ids, and how it ended or None."""

        def read(parts: Iterator[dict[str, Any]]) -> Iterator[tuple[int, Tokens, str | None]]:
            for part in parts:
                for choice in part.get("choices", []):
                    yield choice["index"], choice.get("token_ids") or [], choice.get("finish_reason")

        with self.client.stream(COMPLETIONS, self.build_request(request, params)) as parts:
            yield read(parts)

    def compute_logp(self, prompt_ids: Tokens, completion_ids: Tokens) -> float | None:
        """The log-probability (nats) of a completion after its prompt, summed over its tokens; None where the server
        has none."""
        if self.logprobs is None:
            return None
        ids = [*prompt_ids, *completion_ids]
        fields, read = LOGPROBS[self.logprobs]
        body = self.build_logprob_request(ids, fields)
        return self.client.ask(COMPLETIONS, body, lambda answer: sum(read(answer, ids)[len(prompt_ids) :]))

    def has_logprobs(self, ids: Tokens, way: str) -> bool:
        """Whether the server tells the log-probabilities of these tokens in one of the ways of LOGPROBS."""
        fields, read = LOGPROBS[way]
        try:
            read(self.client.ask(COMPLETIONS, self.build_logprob_request(ids, fields)), ids)
        except (Refused, BadAnswer, KeyError, IndexError, TypeError):
            return False
        return True

    def build_logprob_request(self, ids: Tokens, fields: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.name, "prompt": ids, "max_tokens": 1, "temperature": 0.0, **fields}


def read_tokens(tokens: Sequence[int], finish_reason: str, eos: int) -> Tokens:
    """The ids of a finished reply. Some servers leave the EOS out."""
    if finish_reason not in (STOP, LENGTH):
        raise BadAnswer(f"a reply ended with {finish_reason!r}")
    if not all(type(token) is int for token in tokens):
        raise BadAnswer("token_ids are no integers")
    tokens = truncate_at_eos(list(tokens), eos)
    if finish_reason == STOP and tokens[-1:] != [eos]:
        tokens.append(eos)
    if not tokens:
        raise BadAnswer("a reply has no tokens")
    return tokens


def read_prompt_logprobs(answer: dict[str, Any], ids: Tokens) -> list[float]:
    """The log-probability of each token of a prompt; 0 of the first, which nothing precedes."""
    choice = answer["choices"][0]
    found = choice["prompt_logprobs"] if "prompt_logprobs" in choice else answer["prompt_logprobs"]
    if len(found) != len(ids):
        raise BadAnswer(f"prompt_logprobs are of {len(found)} tokens; the prompt has {len(ids)}")
    return [0.0, *(float(each[str(token)]["logprob"]) for token, each in zip(ids[1:], found[1:], strict=True))]


def read_echoed(answer: dict[str, Any], ids: Tokens) -> list[float]:
    """The same of a server that repeats the prompt before its reply."""
    found = answer["choices"][0]["logprobs"]["token_logprobs"]
    if len(found) < len(ids):
        raise BadAnswer(f"token_logprobs are of {len(found)} tokens; the prompt alone has {len(ids)}")
    return [0.0, *(float(each) for each in found[1 : len(ids)])]


# How a server tells the log-probabilities of given tokens: fields of the request, and what reads the answer.
LOGPROBS = {
    "prompt_logprobs": ({"prompt_logprobs": 0}, read_prompt_logprobs),
    "echo": ({"echo": True, "logprobs": 0}, read_echoed),
}
