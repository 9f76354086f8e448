"""Tiny real models, made once a session: a Llama of two layers, a LoRA adapter on it, two BERT classifiers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # the models are so small that a second thread only waits
VISIBLE_DEVICES = os.environ.get("CUDA_VISIBLE_DEVICES")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a test that needs a card is marked gpu and starts a process of its own

from response_generator.backends import import_backend  # noqa: E402 (after the card is hidden)

import_backend("unsloth")  # before any test module imports transformers, trl or peft

ROOT = Path(__file__).parent.parent
DEMO_DATA = ROOT / "response_generator" / "demo" / "data"
CHATML = str(ROOT / "response_generator" / "templates" / "chatml_emotion.jinja")
LLAMA2 = str(ROOT / "response_generator" / "templates" / "llama2_emotion.jinja")
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "[EMOTION]", "[/EMOTION]"]
STEPS = 6  # of the tiny run: 12 pairs, batches of 4, 2 epochs
HISTORY = [
    {"role": "user", "content": {"emotion": "happiness", "dialog": "I got the job !"}},
    {"role": "assistant", "content": {"emotion": "surprise", "dialog": "Really ? Congratulations !"}},
    {"role": "user", "content": {"emotion": "neutral", "dialog": "Thank you ."}},
]


def demo_rows(name: str, count: int) -> list[dict]:
    with open(DEMO_DATA / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def write_rows(file: Path, rows: list) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@dataclass(frozen=True)
class Tiny:
    """Folders of the tiny models, and args that run on them."""

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
            "chat_template": {"file": CHATML, "marks": ["<|im_start|>user ", "<|im_end|>"]},
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_base(folder / "base")
    write_tiny_adapter(folder / "base", folder / "adapter")
    from response_generator.emotions import EMOTIONS

    write_tiny_classifier(folder / "emotion", folder / "base", EMOTIONS)
    write_tiny_classifier(folder / "gibberish", folder / "base", ("clean", "noise"))
    write_rows(folder / "pairs.jsonl", demo_rows("preferences_train", 12))
    write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", 6))
    return Tiny(folder)


def write_tiny_base(folder: Path, hidden: int = 64) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    texts = [turn["content"]["dialog"] for row in demo_rows("dialogues_train", 100) for turn in row["prompt"]]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # a random model that has opinions
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_tiny_adapter(base: Path, folder: Path, seed: int = 1, **lora) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False} | lora
    config = LoraConfig(task_type="CAUSAL_LM", **lora)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def write_tiny_classifier(folder: Path, tokenizer_folder: Path, labels: tuple[str, ...]) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def script_environment() -> dict[str, str]:
    """What the scripts see: no account, no hub, and the processor only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "HF_"))}
    return kept | {"NETRC": os.devnull, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160"}


def run_script(
    script: str, args: dict | str, folder: Path, *options: str, **variables: str
) -> subprocess.CompletedProcess:
    """Runs a script as a user would, in `folder`, on an args file that holds `args`."""
    file = folder / "args_of_test.json"
    file.write_text(args if isinstance(args, str) else json.dumps(args), encoding="utf-8")
    command = [sys.executable, str(ROOT / script), "--json_file", str(file), *options]
    return subprocess.run(
        command,
        cwd=folder,
        env=script_environment() | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_here(main: Callable[[], None], args: dict, folder: Path, *options: str) -> int:
    """A script's `main` in this process, which has its imports behind it: for what ends before a model is loaded."""
    from response_generator import command_line

    file = folder / "args_of_test.json"
    file.write_text(json.dumps(args), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", "--json_file", str(file), *options])
        return command_line.run(main)


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """A finished DPO run, tracked offline: `(folder, what it printed)`."""
    folder = tmp_path_factory.mktemp("trained")
    wandb = {"mode": "offline", "project": "test"}
    done = run_script("fine_tune_dpo.py", tiny.dpo(folder / "run", wandb=wandb), folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def adapter_bytes(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in read_lines(run / "log.jsonl") if "loss" in entry]
