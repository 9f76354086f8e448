"""A real vLLM on the processor, with the demo's base model and two LoRA adapters (make test-vllm)."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, read_args, read_json, read_lines
from script_process import HANG_SECONDS
from script_runs import run_script, start_script
from server_runs import built_here, evaluated_here
from test_evaluate_by_server import read_whole_lines
from test_interruptions import once
from tiny_models import write_tiny_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator.constants import PREDICTIONS_FILE
from response_generator.generation.method import MAX_ROUNDING_GAP
from response_generator.generation.server import client
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.logprobs import completion_logps

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

BASE = ROOT / "assets" / "base_model"
SFT = ROOT / "response_generator" / "demo" / "sft_adapter"
PROMPTS = 8
GREEDY = {"max_new_tokens": 24, "min_new_tokens": 2, "do_sample": False, "repetition_penalty": 1.1}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


class VLLM:
    """A vLLM server that can be killed and started again on the same port."""

    def __init__(self, adapters: dict[str, Path]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.adapters, self.process = adapters, None
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115 (open as long as the server)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the server, and does not wait for it."""
        lora = [f"{name}={folder}" for name, folder in self.adapters.items()]
        options = ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", *lora, "--max-model-len", "1024"]
        options += [
            "--model",
            str(BASE),
            "--served-model-name",
            "base",
            "--dtype",
            "bfloat16",
            "--port",
            str(self.port),
        ]
        variables = {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [os.environ["VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server", *options],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def wait(self) -> None:
        """Waits until it answers."""

        def answers() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return True
            except OSError:
                return False

        once_for_long(answers, self)


def once_for_long(happened: Callable[[], bool], server: VLLM) -> None:
    for _ in range(HANG_SECONDS):
        if happened():
            return
        try:
            server.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(Path(server.log.name).read_text("utf-8")[-4000:])
    pytest.fail("vLLM did not start")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory) -> Iterator[VLLM]:
    other = tmp_path_factory.mktemp("adapter") / "other"
    write_tiny_adapter(BASE, other, seed=3, r=8, lora_alpha=1, target_modules=TARGETS)
    server = VLLM({"sft": SFT, "other": other})
    server.start()
    server.wait()
    yield server
    server.kill()


@pytest.fixture
def values(vllm, tmp_path) -> dict:
    """Args of an evaluation of `sft` against the other adapter, on the demo's dialogues."""
    values = read_args("demo/evaluate_arg.json") | {
        "backend": "transformers",
        "adapter": str(SFT),
        "baseline_adapter": str(vllm.adapters["other"]),
        "base_model": str(BASE),
        "from_pretrained": {"dtype": "bfloat16"},
        "dataset": {"path": str(ROOT / "response_generator/demo/data/dialogues_test.jsonl"), "limit": PROMPTS},
        "generation": GREEDY,
        "scoring": None,
        "best_of": None,
        "heldout_pairs": None,
        "bootstrap_resamples": 100,
        "wandb": {"mode": "disabled"},
        "generation_method": "server",
        "server": {"url": vllm.url, "model": "sft", "baseline_model": "other", "concurrency": 4, "logprobs": False},
    }
    values["chat_template"]["file"] = str(ROOT / values["chat_template"]["file"])
    return values


def test_greedy_replies_are_those_of_this_program_but_for_near_ties(values, vllm, tmp_path):
    values["server"] |= {"concurrency": 1, "logprobs": True}  # beside other requests it would end
    assert evaluated_here(values, tmp_path / "server") == 0
    assert evaluated_here(values | {"generation_method": "auto", "server": None}, tmp_path / "local") == 0
    there, here = (read_lines(tmp_path / name / PREDICTIONS_FILE) for name in ("server", "local"))
    assert len(there) == len(here) == 2 * PROMPTS
    gaps = [one["gold_logp"] - other["gold_logp"] for one, other in zip(there, here, strict=True)]
    equal = sum(one["response"] == other["response"] for one, other in zip(there, here, strict=True))
    print(
        f"{equal} of {len(there)} replies are equal; gold log-probabilities differ by up to {max(map(abs, gaps)):.3f}"
    )
    print(read_json(tmp_path / "server" / "environment.json")["server"])
    assert max(map(abs, gaps)) < 2  # of some 50 nats: sums of 16-bit roundings
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    for name, folder in (("sft", SFT), ("other", vllm.adapters["other"])):
        model = add_adapter(model, AdapterFile.read(folder), name)
    for one, other in zip(there, here, strict=True):
        model.set_adapter("sft" if one["model"] == "adapter" else "other")
        assert_nearly_tied(model, tokenizer, one, other)


def assert_nearly_tied(model, tokenizer, one: dict, other: dict) -> None:
    """Where two replies differ first, both tokens are about equally probable after the repetition penalty."""
    ours, theirs = (tokenizer(row["response"], add_special_tokens=False).input_ids for row in (one, other))
    place = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), None)
    if place is None:
        return
    prompt = tokenizer(one["prompt"], add_special_tokens=False).input_ids
    texts = [(prompt, reply[: place + 1]) for reply in (ours, theirs)]
    first, second = completion_logps(model, texts, tokenizer.pad_token_id)
    assert abs(first - second) <= 2 * MAX_ROUNDING_GAP, (one["response"], other["response"])


def test_pairs_are_built(values, vllm, tmp_path):
    pairs = read_args("demo/preference_arg.json") | {
        name: values[name]
        for name in ("backend", "base_model", "from_pretrained", "chat_template", "generation_method")
    }
    pairs |= {
        "adapter": str(SFT),
        "dataset": {"path": str(ROOT / "response_generator/demo/data/dialogues_train.jsonl"), "limit": 4},
        "server": {"url": vllm.url, "model": "sft", "concurrency": 4, "logprobs": False},
        "scoring": {
            name: str(ROOT / model) for name, model in read_args("demo/preference_arg.json")["scoring"].items()
        },
        "filters": {},
    }
    assert built_here(pairs, tmp_path / "run") == 0
    assert len(read_lines(tmp_path / "run" / "preferences.jsonl")) == 4


@pytest.mark.parametrize("killed", ["client", "server"])
def test_a_killed_client_or_server_loses_nothing(killed, values, vllm, tmp_path):
    values |= {"output_dir": str(tmp_path / "run"), "generation": GREEDY | {"do_sample": True, "max_new_tokens": 60}}
    file = tmp_path / "run" / PREDICTIONS_FILE
    process = start_script("evaluate.py", values, tmp_path)
    once(lambda: file.is_file() and len(read_whole_lines(file)) >= 2, process)
    if killed == "client":
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before = read_whole_lines(file)
        done = run_script("evaluate.py", values, tmp_path)
        assert done.returncode == 0, done.stderr
    else:
        vllm.kill()
        before = read_whole_lines(file)
        vllm.start()
        assert process.wait() == 0, process.read_stderr()
        assert "answers again" in process.read_stderr()
    assert 2 <= len(before) < 2 * PROMPTS
    after = {(row["model"], row["index"]): row["response"] for row in read_lines(file)}
    assert len(after) == 2 * PROMPTS
    assert all(after[row["model"], row["index"]] == row["response"] for row in before)


def test_the_server_ends_at_a_seed_and_the_run_says_so(values, vllm, tmp_path, monkeypatch, capsys):
    """What vLLM does without a GPU; the last test, because the server is gone then."""
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.1)
    values["server"]["send_seed"] = True
    values["generation"] = GREEDY | {"do_sample": True}
    assert evaluated_here(values, tmp_path / "run") == 1
    assert "no answer" in capsys.readouterr().err
