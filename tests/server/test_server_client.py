"""Requests to a server that is busy, breaks, dies and comes back. Behind it is the tiny model."""

import json
import threading

import pytest
from model_server import ABORTED, BROKEN, BUSY, CUT, DEAD, ERROR, HELD, REFUSED
from server_runs import start_again_when_away, wait_briefly
from transformers import GenerationConfig

from response_generator.config.schema import ServerArguments
from response_generator.errors import RunError
from response_generator.generation.generation_requests import SamplingParams
from response_generator.generation.server import client as client_module
from response_generator.generation.server.client import Refused, ServerClient
from response_generator.generation.server.completions import ServedModel
from response_generator.generation.server.side_by_side import ask_side_by_side

CONCURRENCY = 4


@pytest.fixture
def client(model_server, monkeypatch):
    wait_briefly(monkeypatch)
    with ServerClient(ServerArguments(url=f"{model_server.url}/v1/", concurrency=CONCURRENCY, timeout=60)) as client:
        yield client


@pytest.fixture(scope="module")
def params(tiny_formatter) -> SamplingParams:
    tokenizer = tiny_formatter.tokenizer
    config = GenerationConfig(
        max_new_tokens=6,
        do_sample=False,
        repetition_penalty=1.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return SamplingParams(config, seed=1, samples=1)


def test_whatever_fails_the_reply_is_the_same(client, model_server, tiny_requests, params):
    model = ServedModel(client, "sft", send_seed=False)
    expected = model.sample(tiny_requests[0], params)
    model_server.faults.extend([BUSY, ERROR, CUT, BROKEN, ABORTED])
    model_server.asked.clear()
    assert model.sample(tiny_requests[0], params) == expected
    assert len(model_server.asked) == 6
    assert all(body == model_server.asked[0] for body in model_server.asked)


def test_a_refused_request_is_not_sent_again(client, model_server, tiny_requests, params):
    model_server.faults.append(REFUSED)
    with pytest.raises(Refused, match="/v1/completions: HTTP status 400: refused by the test"):
        ServedModel(client, "sft", send_seed=False).sample(tiny_requests[0], params)
    assert len(model_server.asked) == 1


def test_an_error_that_stays_ends_the_run(client, model_server, tiny_requests, params, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_FAILURES", 3)
    model_server.faults.extend([ERROR] * 9)
    with pytest.raises(RunError, match=r"after 3 tries .*HTTP status 500: error by the test.*what is finished is kept"):
        ServedModel(client, "sft", send_seed=False).sample(tiny_requests[0], params)
    assert len(model_server.asked) == 3


def test_a_server_that_dies_at_a_request_and_comes_back(client, model_server, tiny_requests, params, monkeypatch):
    start_again_when_away(model_server, monkeypatch)
    model = ServedModel(client, "dpo", send_seed=False)
    expected = [model.sample(request, params) for request in tiny_requests]
    model_server.faults.extend([None, DEAD, None, DEAD])
    found = {}
    for group in ask_side_by_side(lambda request: model.sample(request, params), tiny_requests, CONCURRENCY):
        found |= {request.key: samples for request, samples in group}
    assert [found[request.key] for request in tiny_requests] == expected


def test_a_server_that_stays_away_ends_the_run(client, model_server, monkeypatch, capsys):
    monkeypatch.setattr(client_module, "PATIENCE_SECONDS", 0.05)
    model_server.stop()
    with pytest.raises(RunError, match=r"server\.url: http://127.*Connection refused.*run the same command again"):
        client.ask("/v1/models")
    assert capsys.readouterr().err.count("asking again for up to") == 1


def test_a_server_that_is_too_slow(client, model_server, tiny_requests, params, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_FAILURES", 2)
    model_server.faults.extend([HELD] * 2)
    client.http.timeout = 0.2
    with pytest.raises(RunError, match=r"nothing within 60 seconds: set a longer server\.timeout"):
        ServedModel(client, "sft", send_seed=False).sample(tiny_requests[0], params)
    model_server.gate.set()


def test_no_more_is_asked_at_once_than_allowed_and_connections_are_kept(client, model_server, tiny_requests, params):
    """The first requests are held until as many are there as may be at once."""
    model_server.faults.extend([HELD] * CONCURRENCY)
    model_server.opens_at = CONCURRENCY
    model = ServedModel(client, "sft", send_seed=False)
    requests = tiny_requests * 4
    groups = list(ask_side_by_side(lambda request: model.sample(request, params), requests, CONCURRENCY))
    assert sum(map(len, groups)) == len(requests) == len(model_server.asked)
    assert model_server.at_once == CONCURRENCY
    assert model_server.connections <= CONCURRENCY


def test_the_server_gets_nothing_to_do_while_its_replies_are_not_taken():
    started, taken, most = 0, 0, 0
    lock = threading.Lock()

    def ask(item: int) -> int:
        nonlocal started, most
        with lock:
            started += 1
            most = max(most, started - taken)
        return item

    for group in ask_side_by_side(ask, range(1000), CONCURRENCY):
        with lock:
            taken += len(group)
    assert taken == 1000
    assert most <= 3 * CONCURRENCY  # at work and waiting 2 * CONCURRENCY, and those that were just taken


def test_what_was_finished_before_an_error_is_passed_on():
    reached = threading.Event()

    def ask(item: int) -> int:
        if item == 3:
            reached.wait()
            raise RunError("the fourth")
        if item == 2:
            reached.set()
        return item

    found = []
    with pytest.raises(RunError, match="the fourth"):
        for group in ask_side_by_side(ask, range(4), 1):
            found += [item for item, _ in group]
    assert found == [0, 1, 2]


def test_the_key_is_sent_and_not_shown(model_server, monkeypatch):
    wait_briefly(monkeypatch)
    model_server.key = "secret-of-the-test"
    monkeypatch.setenv("KEY_OF_TEST", model_server.key)
    with ServerClient(ServerArguments(url=model_server.url, api_key_env="KEY_OF_TEST")) as client:
        assert client.ask("/v1/models")["data"][0]["id"] == "base"
    monkeypatch.setenv("KEY_OF_TEST", "another-secret")
    with ServerClient(ServerArguments(url=model_server.url, api_key_env="KEY_OF_TEST")) as client:
        with pytest.raises(Refused) as refusal:
            client.ask("/v1/models")
    assert refusal.value.status == 401 and "another-secret" not in str(refusal.value)


def test_the_sampling_settings_are_those_of_the_run(client, model_server, tiny_requests, tiny_formatter):
    tokenizer = tiny_formatter.tokenizer
    settings = {
        "max_new_tokens": 5,
        "min_new_tokens": 2,
        "do_sample": True,
        "temperature": 1.3,
        "top_k": 7,
        "top_p": 0.8,
    }
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GenerationConfig(**settings, repetition_penalty=1.1, **ids)
    samples = ServedModel(client, "sft", send_seed=False).sample(tiny_requests[1], SamplingParams(config, 1, samples=3))
    assert len(samples) == 3 and all(2 <= len(each) <= 5 for each in samples)
    (body,) = model_server.asked
    assert body["prompt"] == tiny_requests[1].prompt_ids
    expected = {"n": 3, "max_tokens": 5, "min_tokens": 2, "temperature": 1.3, "top_k": 7, "top_p": 0.8}
    assert expected.items() <= body.items()
    assert (body["repetition_penalty"], body["stop_token_ids"]) == (1.1, [tokenizer.eos_token_id])
    assert "seed" not in body and json.dumps(body)
