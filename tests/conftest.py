"""Fixtures shared by the tests: tiny real models (a Llama with two layers, a LoRA adapter, two BERT classifiers), the
args of runs with them, and finished runs."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # for such small models a second thread is no faster
# Set once: the workers of pytest-xdist inherit the variable that the next line changes.
VISIBLE_DEVICES = os.environ.setdefault("TEST_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests that need a GPU are marked gpu and start another process

from response_generator.modeling.backend import import_backend  # noqa: E402 (after the GPU is hidden)
from response_generator.modeling.precision import BF16_VARIABLE  # noqa: E402

# Tests compute in float32 on every processor, except those that ask for `precision` or name a dtype. To run them all in
# bfloat16, set the variable to 1.
os.environ.setdefault(BF16_VARIABLE, "0")
import_backend(os.environ.get("TEST_BACKEND", "unsloth"))  # before any test module imports transformers, trl or peft

import torch  # noqa: E402
from model_server import ModelServer  # noqa: E402
from published_models import (  # noqa: E402
    MARKERS,
    SPECIAL_TOKENS,
    write_published_adapter,
    write_published_base,
)
from script_process import forget_processor  # noqa: E402
from script_runs import run_script  # noqa: E402
from tiny_models import EMOTION_LABELS, ROOT, demo_rows, write_tiny_adapter, write_tiny_base, write_tiny_classifier  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from response_generator.chat.reply_writer import ReplyWriter  # noqa: E402
from response_generator.config.args_file import ArgsFile  # noqa: E402
from response_generator.config.chat_schema import ChatArguments  # noqa: E402
from response_generator.config.dataset_schema import DatasetArguments  # noqa: E402
from response_generator.config.schema import ChatTemplateArguments  # noqa: E402
from response_generator.config.validation import validate_arguments  # noqa: E402
from response_generator.constants import ADAPTER  # noqa: E402
from response_generator.data.chat_template import ChatFormatter  # noqa: E402
from response_generator.data.reading import read_dialogues  # noqa: E402
from response_generator.generation.generation_requests import GenerationRequest  # noqa: E402
from response_generator.modeling.adapter_file import AdapterFile  # noqa: E402
from response_generator.modeling.adapters import add_adapter  # noqa: E402

CHATML = str(ROOT / "response_generator" / "data" / "templates" / "chatml_emotion.jinja")
LLAMA2 = str(ROOT / "response_generator" / "data" / "templates" / "llama2_emotion.jinja")
STEPS = 6  # optimizer steps of the tiny run: 12 pairs, batch size 4, 2 epochs
HISTORY = [
    {"role": "user", "content": {"emotion": "happiness", "dialog": "I got the job !"}},
    {"role": "assistant", "content": {"emotion": "surprise", "dialog": "Really ? Congratulations !"}},
    {"role": "user", "content": {"emotion": "neutral", "dialog": "Thank you ."}},
]


SLOW_FOLDERS = {"scripts", "gpu"}
SLOW_FIXTURES = {"tiny", "published", "browser", "written"}  # models, a browser, a whole report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks tests that use a model, a browser or a whole script as slow; others that are slow are marked themselves.
    Leaves out those that need vLLM, unless they are asked for."""
    if "vllm" not in config.option.markexpr:
        items[:] = [item for item in items if not item.get_closest_marker("vllm")]
    for item in items:
        if item.path.parent.name in SLOW_FOLDERS or SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture(params=["bfloat16", "float32"])
def precision(request) -> Iterator[str]:
    """Runs the test twice: as on a processor with bfloat16 instructions, and as on one without; torch emulates what the
    processor does not have. Processes that the test starts inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BF16_VARIABLE, "1" if request.param == "bfloat16" else "0")
        forget_processor()
        yield request.param
    forget_processor()


def write_rows(file: Path, rows: list) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@dataclass(frozen=True)
class Tiny:
    """Folders of the tiny models, and args of runs with them."""

    folder: Path

    @property
    def base(self) -> str:
        return str(self.folder / "base")

    @property
    def adapter(self) -> str:
        return str(self.folder / "adapter")

    def common(self, output: Path) -> dict:
        return {
            "output_dir": str(output),
            "seed": 42,
            "backend": "unsloth",
            "base_model": self.base,
            "adapter": self.adapter,
            "from_pretrained": {
                "attn_implementation": "flash_attention_2",
                "pretraining_tp": 1,
                "load_in_4bit": True,
                "device_map": "auto",
                "low_cpu_mem_usage": True,
            },
            "chat_template": {"file": CHATML, "required_markers": ["<|im_start|>user ", "<|im_end|>"]},
            "wandb": {"mode": "disabled"},
        }

    def dpo(self, output: Path, **changes) -> dict:
        return {
            **self.common(output),
            "dataset": {"path": str(self.folder / "pairs.jsonl")},
            "eval_dataset": {"path": str(self.folder / "pairs.jsonl"), "limit": 4},
            "dpo": {
                "beta": 0.1,
                "num_train_epochs": 2,
                "per_device_train_batch_size": 4,
                "learning_rate": 1e-2,
                "max_length": 256,
                "gradient_checkpointing": False,
                "remove_unused_columns": False,
                "logging_steps": 1,
                "save_steps": 2,
                "shared_prefix": False,  # with "auto" the layout would depend on the time
            },
            **changes,
        }

    def sft(self, output: Path, **changes) -> dict:
        return {
            **self.common(output),
            "adapter": None,
            "lora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
            "dataset": {"path": str(self.folder / "dialogues.jsonl")},
            "eval_dataset": {"path": str(self.folder / "dialogues.jsonl"), "limit": 2},
            "sft": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 2,
                "learning_rate": 1e-2,
                "max_length": 512,
                "gradient_checkpointing": False,
                "logging_steps": 1,
                "save_steps": 2,
            },
            **changes,
        }

    def evaluate(self, output: Path, **changes) -> dict:
        return {
            **self.common(output),
            "baseline_adapter": "none",
            "dataset": {"path": str(self.folder / "dialogues.jsonl")},
            "batch_size": 4,
            "generation": {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": True, "top_k": 3, "top_p": 0.9},
            "scoring": {
                "emotion_model": str(self.folder / "emotion"),
                "gibberish_model": str(self.folder / "gibberish"),
            },
            **changes,
        }

    def chat(self, **changes) -> dict:
        """Args of a chat with two adapters and the bare base model."""
        values = self.common(self.folder)
        for key in ("output_dir", "adapter", "wandb"):
            del values[key]
        evaluation = self.evaluate(self.folder)
        return {
            **values,
            "adapters": {"SFT": self.adapter, "DPO": str(self.folder / "other_adapter"), "base": "none"},
            "generation": evaluation["generation"],
            "scoring": evaluation["scoring"],
            **changes,
        }

    def preferences(self, output: Path, **changes) -> dict:
        """Args whose filters some attempts of the random models pass and others do not."""
        return {
            **self.common(output),
            "dataset": {"path": str(self.folder / "dialogues.jsonl")},
            "history_turns": 3,
            "keep_short_dialogues": True,
            "batch_size": 8,
            "candidates": 3,
            "max_attempts": 5,
            "generation": {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": True, "top_k": 20},
            "scoring": {
                "emotion_model": str(self.folder / "emotion"),
                "gibberish_model": str(self.folder / "gibberish"),
            },
            "filters": {"min_margin": 0.2, "chosen_gibberish_labels": ["clean"]},
            **changes,
        }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_base(folder / "base")
    write_tiny_adapter(folder / "base", folder / "adapter")
    write_tiny_adapter(folder / "base", folder / "other_adapter", seed=3)
    write_tiny_classifier(folder / "emotion", folder / "base", EMOTION_LABELS.names)
    write_tiny_classifier(folder / "choosing", folder / "base", EMOTION_LABELS.names[::-1])  # says something else
    write_tiny_classifier(folder / "gibberish", folder / "base", ("clean", "noise"))
    write_rows(folder / "pairs.jsonl", demo_rows("written_pairs_train", 12))
    write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", 6))
    return Tiny(folder)


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """A folder of small models built like the published ones: base, adapter_two_tables (fp32), adapter_three_copies
    (bf16)."""
    folder = tmp_path_factory.mktemp("published")
    write_published_base(folder / "base")
    write_published_adapter(folder / "base", folder / "adapter_two_tables", copies=False)
    write_published_adapter(folder / "base", folder / "adapter_three_copies", copies=True)
    return folder


def published_dpo(tiny: Tiny, published: Path, output: Path, adapter: str, **dpo) -> dict:
    """Returns the args of a short run with the models of `published`, always in bf16."""
    values = tiny.dpo(output, base_model=str(published / "base"), adapter=str(published / adapter), eval_dataset=None)
    values["from_pretrained"] |= {"dtype": "bfloat16"}
    values["chat_template"] = {"file": LLAMA2, "special_tokens": SPECIAL_TOKENS, "required_markers": MARKERS}
    values["dpo"] |= {"bf16": True, "num_train_epochs": 1, "save_steps": 1} | dpo
    return values


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A finished DPO run with offline tracking: `(run folder, completed process)`."""
    folder = tmp_path_factory.mktemp("trained")
    wandb = {"mode": "offline", "project": "test"}
    done = run_script("fine_tune_dpo.py", tiny.dpo(folder / "run", wandb=wandb), folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


@pytest.fixture(scope="session")
def browser():
    from browser_pages import CHROMIUM, FLAGS
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def read_args(name: str) -> dict:
    """The values of a file in args/, with those of the files that it extends."""
    return ArgsFile.read(ROOT / "args" / name).values


def change_args(run: Path, **changes) -> None:
    """Changes the args.json of a run folder, as if the run had been started with these values."""
    (run / "args.json").write_text(json.dumps(read_json(run / "args.json") | changes), encoding="utf-8")


def adapter_bytes(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in read_lines(run / "log.jsonl") if "loss" in entry]


EVALUATED_PROMPTS = 24  # with two models and two samples: 96 replies in 12 batches


@pytest.fixture(scope="session")
def evaluation(tiny, trained, tmp_path_factory) -> dict:
    """Args of an evaluation of the trained adapter, with the adapter that training started from as baseline."""
    folder = tmp_path_factory.mktemp("dialogues")
    return tiny.evaluate(
        folder,
        adapter=str(trained[0] / "adapter"),
        baseline_adapter=tiny.adapter,
        dataset={"path": write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", EVALUATED_PROMPTS))},
        samples_per_prompt=2,
        heldout_pairs={"dataset": {"path": str(tiny.folder / "pairs.jsonl")}, "beta": 0.1},
        bootstrap_resamples=1000,
        wandb={"mode": "offline", "project": "test"},
    )


def evaluated_in(folder: Path, values: dict, *options: str, run=run_script, **changes) -> subprocess.CompletedProcess:
    """Runs evaluate.py with the output folder `folder/run` and checks that it succeeds."""
    done = run("evaluate.py", values | {"output_dir": str(folder / "run")} | changes, folder, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="session")
def evaluated(evaluation, tmp_path_factory):
    """A finished evaluation: `(run folder, completed process)`."""
    folder = tmp_path_factory.mktemp("evaluated")
    done = evaluated_in(folder, evaluation)
    return folder / "run", done


@pytest.fixture(scope="session")
def tiny_model(tiny):
    """The tiny base model in fp32 with its adapter, as evaluation loads it."""
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    return add_adapter(base, AdapterFile.read(tiny.folder / "adapter"), ADAPTER).eval()


@pytest.fixture(scope="session")
def chat_writer(tiny) -> ReplyWriter:
    """What writes the replies of a chat with the tiny models, loaded."""
    writer = ReplyWriter(validate_arguments(ChatArguments, tiny.chat(), "args.json"))
    writer.load()
    return writer


@pytest.fixture(scope="session")
def started_model_server(tiny) -> Iterator[ModelServer]:
    server = ModelServer(tiny.base, {"sft": tiny.adapter, "dpo": str(tiny.folder / "other_adapter")})
    yield server
    server.stop()


@pytest.fixture
def model_server(started_model_server) -> ModelServer:
    """A running server with the tiny base and two adapters, without faults."""
    started_model_server.stop()
    started_model_server.reset()
    started_model_server.start()
    return started_model_server


@pytest.fixture(scope="session")
def tiny_formatter(tiny) -> ChatFormatter:
    return ChatFormatter.of(
        AutoTokenizer.from_pretrained(tiny.base), ChatTemplateArguments(file=CHATML), EMOTION_LABELS
    )


@pytest.fixture(scope="session")
def tiny_requests(tiny, tiny_formatter) -> list[GenerationRequest]:
    dialogues, _ = read_dialogues(DatasetArguments(path=str(tiny.folder / "dialogues.jsonl")), EMOTION_LABELS)
    return [GenerationRequest.of(dialogue, tiny_formatter) for dialogue in dialogues]
