"""What the tests of runs with a server share."""

from pathlib import Path

import pytest
from conftest import Tiny
from model_server import ModelServer
from script_runs import run_here

import evaluate
from response_generator.generation.server import client
from response_generator.generation.server.client import ServerClient
from response_generator.preferences import __main__ as preferences

IN_FLOAT32 = {"dtype": "float32"}
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": False, "repetition_penalty": 1.2}


def evaluate_by_server(tiny: Tiny, output: Path, url: str, **changes) -> dict:
    """Args of an evaluation of `sft` against the bare base model."""
    values = tiny.evaluate(output, backend="transformers", bootstrap_resamples=100, from_pretrained=IN_FLOAT32)
    server = {"url": url, "model": "sft", "baseline_model": "base", "concurrency": 3}
    return values | {"generation_method": "server", "server": server} | changes


def pairs_by_server(tiny: Tiny, output: Path, url: str, **changes) -> dict:
    values = tiny.preferences(output, backend="transformers", from_pretrained=IN_FLOAT32)
    return values | {"generation_method": "server", "server": {"url": url, "model": "sft", "concurrency": 3}} | changes


def evaluated_here(values: dict, folder: Path, *options: str) -> int:
    return run_here(evaluate.main, values | {"output_dir": str(folder)}, folder.parent, *options)


def built_here(values: dict, folder: Path, *options: str) -> int:
    return run_here(preferences.main, values | {"output_dir": str(folder)}, folder.parent, *options)


def wait_briefly(patch: pytest.MonkeyPatch) -> None:
    """Requests are sent again at once."""
    patch.setattr(client, "FIRST_WAIT_SECONDS", 0.001)
    patch.setattr(client, "MAX_WAIT_SECONDS", 0.001)


def start_again_when_away(server: ModelServer, patch: pytest.MonkeyPatch) -> None:
    """Starts a server that has ended as soon as the client waits for it."""
    note_away = ServerClient.note_away

    def note_and_start(self, *reason) -> None:
        note_away(self, *reason)
        with self.lock:
            if server.http is None:
                server.start()

    patch.setattr(ServerClient, "note_away", note_and_start)
