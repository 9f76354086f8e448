"""What was found out about a server: noted in environment.json, compared with an earlier start, and told."""

import sys
from typing import Any

from tqdm.auto import tqdm

from response_generator.errors import InputError

SERVER = "server"  # the facts in environment.json


def follow_earlier_start(earlier: dict[str, Any] | None, facts: dict[str, Any]) -> dict[str, Any]:
    """Says what the server does differently from that of an earlier start of the run, and returns the facts with which
    the run goes on: without log-probabilities where its first rows have none.

    Raises:
        InputError: when the results of both do not fit together.
    """
    if not earlier:
        return facts
    if earlier["logprobs"] and not facts["logprobs"]:
        raise InputError(
            "server.url: this server has no log-probabilities of given tokens, but the one that this run began with "
            "had them; use a server as before, or name another output_dir"
        )
    for key in ("version", "models", "context"):
        if earlier.get(key) != facts[key]:
            tqdm.write(f"changed since the last start of this run: server, {key}: {earlier.get(key)} -> {facts[key]}")
    return facts if earlier["logprobs"] else facts | {"logprobs": None}


def describe_server(facts: dict[str, Any]) -> list[str]:
    """What a reader of the results has to know, in sentences."""
    version = f", version {facts['version']}" if facts.get("version") else ""
    models = ", ".join(f"{name} ({root})" if root else name for name, root in facts["models"].items())
    lines = [f"A server writes the replies{version}: {models}; the same tokens by {facts['same_tokens_by']}."]
    if "seed" not in facts:  # it was not asked for replies
        return lines
    lines.append(f"The seed: {facts['seed']}.")
    if "local_model" in facts:
        lines.append(f"Its {facts['local_model']}.")
    if not facts["logprobs"]:
        lines.append(
            "There are no log-probabilities of given tokens from the server: the perplexity of the gold replies and "
            "the reward of held-out pairs are left out."
        )
    applied = "; ".join(f"{names}: {found}" for names, found in facts["adapters_applied"].items())
    lines.append(
        f"Before the first reply, models were compared: {applied}."
        if applied
        else "The server has no other model to compare with: whether it applies the adapter could not be checked."
    )
    return lines


def describe_noted(environment: dict[str, Any]) -> list[str]:
    """The same from environment.json; nothing where no server wrote the replies."""
    return describe_server(environment[SERVER]) if SERVER in environment else []


def show_server(facts: dict[str, Any]) -> None:
    for line in describe_server(facts):
        tqdm.write(line, sys.stderr)
