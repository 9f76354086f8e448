"""What a server serves: the names of its models, its context and its tokens. Nothing is generated."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from response_generator.data.chat_template import ChatFormatter
from response_generator.errors import InputError, RunError
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.generation.server.client import Refused, ServerClient
from response_generator.generation.server.completions import COMPLETIONS

COMPARED_PROMPTS = 4
NO_SUCH_PAGE = (404, 405, 501)


@dataclass(frozen=True)
class ServedCard:
    """A model as the server lists it. root: where the server has it from. parent: the base of an adapter; None for a
    base model, or where nothing is said. context: tokens of prompt and reply together; None where nothing is said."""

    name: str
    root: str | None
    parent: str | None
    context: int | None


def list_models(client: ServerClient) -> dict[str, ServedCard]:
    """The models of a server by their names.

    Raises:
        InputError: when there is no server, or none that lists its models.
    """

    def read(answer: dict[str, Any]) -> dict[str, ServedCard]:
        cards = [
            ServedCard(card["id"], card.get("root"), card.get("parent"), card.get("max_model_len"))
            for card in answer["data"]
        ]
        return {card.name: card for card in cards}

    try:
        return client.ask("/v1/models", None, read, patience=0)
    except Refused as error:
        key = "; server.api_key_env names the variable with the key" if error.status in (401, 403) else ""
        raise InputError(f"server.url: {error}{key}") from error
    except RunError as error:
        raise InputError(str(error)) from error


def check_names(cards: dict[str, ServedCard], names: dict[str, str]) -> None:
    """Checks that the server has each model.

    Args:
        names: what the server calls them, by their keys in the args.

    Raises:
        InputError: with the names that it does not know.
    """
    errors = []
    for key, name in names.items():
        if name not in cards:
            similar = get_close_matches(name, cards, n=1)
            hint = f"did you mean {similar[0]!r}? " if similar else ""
            errors.append(f"{key}: got {name!r}; {hint}the server serves {', '.join(cards) or 'nothing'}")
    if errors:
        raise InputError(*errors)


def find_context(cards: dict[str, ServedCard], names: Sequence[str]) -> int | None:
    """Tokens of prompt and reply together: those of an adapter are its base's."""
    found = [cards[name] for name in names]
    found += [cards[card.parent] for card in found if card.parent in cards]
    return min((card.context for card in found if card.context), default=None)


def check_server_context(lengths: Sequence[int], context: int | None) -> None:
    """Checks that everything fits into the server's context.

    Args:
        lengths: tokens of each prompt with its longest completion.

    Raises:
        InputError: when something does not.
    """
    needed = max(lengths)
    if context is not None and needed > context:
        count = sum(length > context for length in lengths)
        raise InputError(
            f"server.url: the context of the server holds {context} tokens; {count} of {len(lengths)} prompts need "
            f"more together with their replies, the longest {needed}: start the server with a longer one (vLLM: "
            f"--max-model-len {needed}), or leave the rows out"
        )


def check_tokens(
    client: ServerClient, name: str, requests: Sequence[GenerationRequest], formatter: ChatFormatter
) -> str:
    """Compares the server's tokens of a few prompts with those of the run's tokenizer, and says by what.

    Raises:
        InputError: when they differ.
    """
    by = "/tokenize"
    for request in requests[:COMPARED_PROMPTS]:
        ours = formatter.encode(request.prompt)
        try:
            theirs = client.ask(
                "/tokenize",
                {"model": name, "prompt": request.prompt, "add_special_tokens": False},
                lambda answer: list(answer["tokens"]),
            )
        except Refused as error:
            if error.status not in NO_SUCH_PAGE:
                raise
            by = "the number of tokens"
            ours = [len(ours)]
            theirs = [count_prompt_tokens(client, name, request.prompt)]
        if ours != theirs:
            place = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), 0)
            raise InputError(
                f"server.model: {name}: by {by}, the server has other tokens than the tokenizer of this run: "
                f"{theirs[place : place + 5]} where that has {ours[place : place + 5]}, in the prompt of row "
                f"{request.dialogue.index}; serve the tokenizer of the adapter (vLLM: --tokenizer FOLDER)"
            )
    return by


def count_prompt_tokens(client: ServerClient, name: str, prompt: str) -> int:
    body = {"model": name, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "add_special_tokens": False}
    return client.ask(COMPLETIONS, body, lambda answer: int(answer["usage"]["prompt_tokens"]))


def read_version(client: ServerClient) -> str | None:
    """The version of the server, as vLLM tells it; None where it tells none."""
    try:
        return client.ask("/version", None, lambda answer: str(answer["version"]))
    except Refused:  # another server has no such page
        return None
