"""The section server of the args."""

import pytest
from conftest import read_args

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError

SERVER = {"url": "http://localhost:8000", "model": "dpo", "baseline_model": "sft"}


def read_errors(model=EvaluateArguments, file="evaluate_arg.json", **changes) -> list[str]:
    try:
        validate_arguments(model, read_args(file) | changes, "args.json")
    except InputError as error:
        return error.messages
    return []


def by_server(**changes) -> dict:
    return {"generation_method": "server", "server": SERVER | changes}


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "https://host/path/v1", "http://[::1]:8000", "http://10.0.0.1/"]
)
def test_it_is_accepted(url):
    assert read_errors(**by_server(url=url)) == []
    assert (
        validate_arguments(EvaluateArguments, read_args("evaluate_arg.json") | by_server(), "f").server.concurrency
        == 64
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation_method": "server"}, 'generation_method: "server" needs the section server'),
        ({"server": SERVER}, 'server: only for generation_method "server"'),
        (by_server(url="localhost:8000"), "server.url: allowed: http://HOST:PORT"),
        (by_server(url="http://"), "server.url: allowed: http://HOST:PORT"),
        (by_server(url="http://host:port"), "server.url: allowed: http://HOST:PORT"),
        (by_server(baseline_model=None), "server.baseline_model: missing; baseline_adapter is"),
        (by_server(baseline_model="dpo"), "server.baseline_model: got 'dpo', which is also server.model"),
        (
            by_server() | {"baseline_adapter": None},
            "server.baseline_model: got 'sft', but there is no baseline_adapter",
        ),
        (by_server(concurency=3), 'server.concurency: unknown key; did you mean "concurrency"?'),
        (by_server(concurrency=0), "server.concurrency: got 0"),
        (by_server(timeout="long"), "server.timeout: got 'long' (string); allowed: integer"),
        (by_server(model=""), "server.model: is empty"),
        ({"generation_method": "server", "server": {"url": "http://host"}}, "server.model: missing"),
        ({"generation_method": "server", "server": 3}, "server: got 3"),
    ],
)
def test_it_is_refused(changes, message):
    assert any(message in error for error in read_errors(**changes)), read_errors(**changes)


@pytest.mark.parametrize(
    "changes", [{"url": "http://me:secret@host"}, {"url": "http://host?key=secret"}, {"api_key_env": "sk-secret"}]
)
def test_a_secret_is_refused_and_not_shown(changes):
    (error,) = read_errors(**by_server(**changes))
    assert error.startswith(f"args.json: server.{next(iter(changes))}: ") and "secret" not in error


def test_a_chat_needs_a_model_for_each_adapter():
    server = {"url": "http://host", "models": {"SFT": "sft", "DPO": "dpo"}}
    assert read_errors(ChatArguments, "chat_arg.json", server=server) == []
    (error,) = read_errors(ChatArguments, "chat_arg.json", server=server | {"models": {"SFT": "sft"}})
    assert "server.models: got SFT; needed: a model for each of SFT, DPO" in error
