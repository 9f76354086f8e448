"""Local paths and hub ids are told apart and checked; a missing network is asked once."""

import socketserver
import subprocess
import sys
import threading

import pytest
from conftest import ROOT
from script_runs import script_environment

from response_generator.config.sources import (
    find_adapter_source_errors,
    find_dataset_source_errors,
    find_model_source_errors,
    is_local,
)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("meta-llama/Llama-2-7b-hf", False),
        ("gpt2", False),
        ("./checkpoints/adapter", True),
        ("a/b/c", True),
        ("rows.jsonl", True),
        ("assets/base_model", True),  # also before it is made
        ("assets2/base_model", False),
    ],
)
def test_local_paths_are_told_from_hub_ids(name, local):
    assert is_local(name) is local


def test_folders_with_the_wrong_content_are_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "needed: a folder with config.json" in find_model_source_errors("base_model", str(empty))[0]
    assert "needed: a PEFT adapter" in find_adapter_source_errors("adapter", str(empty))[0]
    (empty / "adapter_config.json").write_text("{}", encoding="utf-8")
    (empty / "adapter_model.bin").write_bytes(b"")
    assert "pickled weights (.bin) are not loaded" in find_adapter_source_errors("adapter", str(empty))[0]
    (empty / "rows.csv").write_text("", encoding="utf-8")
    assert "unknown file type" in find_dataset_source_errors("dataset", str(empty / "rows.csv"))[0]
    assert "no such file" in find_dataset_source_errors("dataset", str(empty / "rows.jsonl"))[0]
    for key, value in (("revision", "v1"), ("name", "small")):
        (message,) = find_dataset_source_errors("dataset", str(empty), **{key: value})
        assert f"dataset.{key}: got '{value}'" in message and f"only hub data sets have a {key}" in message


def test_the_error_of_a_missing_model_of_the_demo_names_the_command_that_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (message,) = find_model_source_errors("base_model", str(tmp_path / "assets" / "base_model"))
    assert "assets/base_model: no such file or folder; make assets writes it; needed: a folder" in message
    (message,) = find_model_source_errors("base_model", str(tmp_path / "other" / "assets" / "base_model"))
    assert "no such file or folder; needed: a folder" in message


class ClosingServer(socketserver.ThreadingTCPServer):
    """Closes every connection without an answer, and keeps what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Asked)
        self.asked: list[str] = []


class Asked(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.asked.append(self.rfile.readline().decode())


@pytest.mark.slow
def test_a_missing_network_is_asked_once(tiny, tmp_path):
    """Of five names on the hub it asks for the first alone, and once, without the minutes of the libraries' retries."""
    with ClosingServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        environment = script_environment() | {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache")}
        overrides = {"wandb.mode": "offline", "output_dir": str(tmp_path / "run"), "adapter": tiny.adapter}
        options = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
        done = subprocess.run(
            [sys.executable, "evaluate.py", "--json_file", "args/evaluate_arg.json", *options],
            cwd=ROOT,
            env=environment | {"NO_PROXY": "*", "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
    assert len([path for path in server.asked if "/api/models/" in path or "/api/datasets/" in path]) == 1
    assert done.returncode == 2
    for name in ("unsloth/llama-2-7b-bnb-4bit", "hermeschen1116/daily_dialog_for_RG", "madhurjindal/autonlp"):
        assert name in done.stderr
    assert done.stderr.count("the hub cannot be reached (no network)") == len(done.stderr.splitlines()) == 5
    assert not (tmp_path / "run").exists()
