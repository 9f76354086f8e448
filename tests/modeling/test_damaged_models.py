"""Damaged or unsuitable adapters, base models and classifiers are refused with exit status 2 and a message that names
the file."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from script_runs import run_here

import evaluate
import fine_tune_dpo
from response_generator.modeling import module_patterns

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LAYER = "base_model.model.model.layers.1.mlp.down_proj"


def write_config(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / (CONFIG if (folder / CONFIG).exists() else "config.json")
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def write_tokenizer_config(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def write_raw(key: str, number: str) -> Callable[[Path], None]:
    """Writes a number into the adapter's configuration that Python would not write."""

    def change(folder: Path) -> None:
        write_config(**{key: "THE NUMBER"})(folder)
        text = (folder / CONFIG).read_text(encoding="utf-8")
        (folder / CONFIG).write_text(text.replace('"THE NUMBER"', number), encoding="utf-8")

    return change


def write_file(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def truncate(name: str, share: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def write_weights_header(header: bytes, length: int | None = None) -> Callable[[Path], None]:
    content = struct.pack("<Q", len(header) if length is None else length) + header
    return lambda folder: (folder / WEIGHTS).write_bytes(content)


def change_tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return rewrite


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def insert_nan(tensors: dict) -> None:
    tensors[f"{LAYER}.lora_B.weight"][3, 1] = torch.nan


ADAPTERS = {
    "configuration is a list": (write_file(CONFIG, "[]"), "adapter_config.json: holds a list; needed: one JSON object"),
    "configuration is broken JSON": (write_file(CONFIG, "{"), "adapter_config.json: broken JSON"),
    "configuration is empty": (write_file(CONFIG, ""), "adapter_config.json: is empty"),
    "configuration repeats a key": (write_file(CONFIG, '{"r": 4, "r": 8}'), "r: written twice"),
    "rank is text": (write_config(r="four"), "adapter_config.json: r: got 'four'; allowed: an integer from 1"),
    "rank is huge": (write_config(r=2**70), "adapter_config.json: r: got 1180591620717411303424; allowed"),
    "alpha is infinite": (
        write_raw("lora_alpha", "1e999"),
        "adapter_config.json: lora_alpha: got inf; allowed: a finite",
    ),
    "alpha is 0": (write_config(lora_alpha=0), "adapter_config.json: lora_alpha: got 0; allowed: a number above 0"),
    "loading it would change the base": (
        write_config(init_lora_weights="pissa_niter_4"),
        "changes the weights of the base",
    ),
    "activated LoRA": (write_config(alora_invocation_tokens=[1]), "an activated LoRA is not supported"),
    "target modules are no pattern": (write_config(target_modules="("), "adapter_config.json: target_modules: got '('"),
    "pattern without a module": (
        write_config(target_modules="x.*"),
        "base_model: Target modules x.*",
    ),
    "adapter is not LoRA": (write_config(peft_type="IA3"), "peft_type is 'IA3'; allowed: LORA"),
    "rank in configuration differs from tensors": (
        write_config(r=8),
        "has rank 4 in adapter_model.safetensors, 8 in adapter_config",
    ),
    "target is not a layer": (write_config(target_modules=["query"]), "PEFT cannot add it to base_model"),
    "tensors of a layer that is not a target": (write_config(target_modules=["q_proj"]), "does not ask for"),
    "tensor is missing": (
        change_tensors(lambda tensors: tensors.pop(f"{LAYER}.lora_B.weight")),
        f"lacks 1 of 12 tensors that its adapter_config.json asks for on this base model, for example {LAYER}.lora_B",
    ),
    "layer is missing": (
        write_config(target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks 4 of 16 tensors",
    ),
    "weights hold NaN": (
        change_tensors(insert_nan),
        f"{LAYER}.lora_B.weight holds NaN or infinity: the training that wrote it",
    ),
    "weights are cut short": (truncate(WEIGHTS, 0.7), "adapter_model.safetensors: is damaged or cut short"),
    "weights are empty": (truncate(WEIGHTS, 0), "is damaged or cut short"),
    "header is not JSON": (write_weights_header(b"{not json}"), "is damaged or cut short"),
    "header is longer than the file": (write_weights_header(b"{}", length=2**40), "is damaged or cut short"),
    "header is deeply nested": (write_weights_header(b"[" * 20000), "is damaged or cut short"),
    "weights are missing": (remove(WEIGHTS), "holds no adapter_model.safetensors; pickled weights (.bin)"),
}
MODELS = {
    "configuration is broken": (write_file("config.json", '{"a": '), "config.json: broken JSON"),
    "configuration is empty": (write_file("config.json", "{}"), "config.json: has no model_type"),
    "configuration is a list": (write_file("config.json", "[]"), "config.json: holds a list"),
    "unknown model type": (write_config(model_type="lama"), "lama"),
    "generation configuration is a list": (
        write_file("generation_config.json", "[]"),
        "generation_config.json: holds a",
    ),
    "a token id is text": (
        write_file("generation_config.json", '{"eos_token_id": "x"}'),
        "generation_config.json: eos_token_id: got 'x'; allowed: an integer",
    ),
    "a billion layers": (write_config(num_hidden_layers=10**9), "num_hidden_layers: got 1000000000; allowed: 1 to"),
    "length is text": (write_tokenizer_config(model_max_length="x"), "model_max_length: got 'x'; allowed: a number"),
    "size is text": (write_config(hidden_size="wide"), "hidden_size"),
    "tokenizer is missing": (remove("tokenizer.json", "tokenizer_config.json"), "holds no tokenizer"),
    "tokenizer is broken": (truncate("tokenizer.json", 0.5), "tokenizer cannot be loaded"),
    "tokenizer is empty": (write_file("tokenizer.json", "{}"), "tokenizer cannot be loaded"),
    "weights are missing": (remove("model.safetensors"), "holds no model.safetensors"),
    "weights are cut short": (truncate("model.safetensors", 0.9), "model.safetensors: is damaged or cut short"),
}


def copy_and_damage(source: str | Path, target: Path, change: Callable[[Path], None]) -> str:
    shutil.copytree(source, target)
    change(target)
    return str(target)


def run_refused(main: Callable[[], None], values: dict, folder: Path, capsys) -> str:
    """Runs a script that has to exit with status 2 and to write nothing; returns its stderr."""
    assert run_here(main, values, folder) == 2
    assert not Path(values["output_dir"]).exists()
    stderr = capsys.readouterr().err
    assert "Traceback" not in stderr
    return stderr


@pytest.mark.parametrize("case", ADAPTERS)
def test_a_damaged_adapter_is_refused(tiny, tmp_path, capsys, case):
    change, message = ADAPTERS[case]
    values = tiny.dpo(tmp_path / "run", adapter=copy_and_damage(tiny.adapter, tmp_path / "sft", change))
    stderr = run_refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert stderr.startswith(f"error: adapter: {tmp_path / 'sft'}") and message in stderr


def test_a_pattern_that_never_ends_is_refused(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module_patterns, "TIMEOUT_SECONDS", 2.0)
    change = write_config(target_modules=["q_proj"], rank_pattern={"(.+)+x": 4})
    values = tiny.dpo(tmp_path / "run", adapter=copy_and_damage(tiny.adapter, tmp_path / "sft", change))
    stderr = run_refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert "adapter_config.json: rank_pattern: got '(.+)+x' (string), which takes more than 2 seconds" in stderr


@pytest.mark.parametrize("case", MODELS)
def test_a_damaged_base_model_is_refused(tiny, tmp_path, capsys, case):
    change, message = MODELS[case]
    values = tiny.dpo(tmp_path / "run", base_model=copy_and_damage(tiny.base, tmp_path / "base", change))
    stderr = run_refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert stderr.startswith("error: base_model: ") and message in stderr


@pytest.mark.parametrize("case", ["configuration is broken", "tokenizer is broken", "weights are cut short"])
def test_a_damaged_classifier_is_refused_before_any_reply(tiny, tmp_path, capsys, case):
    change, message = MODELS[case]
    values = tiny.evaluate(tmp_path / "run")
    values["scoring"]["gibberish_model"] = copy_and_damage(tiny.folder / "gibberish", tmp_path / "gibberish", change)
    stderr = run_refused(evaluate.main, values, tmp_path, capsys)
    assert stderr.startswith("error: scoring.gibberish_model: ")
    assert message in stderr or "cannot be loaded" in stderr


def test_a_missing_file_of_sharded_weights_is_refused(tiny, tmp_path, capsys):
    shutil.copytree(tiny.base, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    write_file("model.safetensors.index.json", json.dumps(index))(tmp_path / "base")
    values = tiny.dpo(tmp_path / "run", base_model=str(tmp_path / "base"))
    stderr = run_refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert "lacks model-2.safetensors, named in model.safetensors.index.json" in stderr


def test_models_with_the_wrong_head_are_refused(tiny, tmp_path, capsys):
    values = tiny.evaluate(tmp_path / "run", base_model=str(tiny.folder / "emotion"))
    values["scoring"]["gibberish_model"] = tiny.base
    stderr = run_refused(evaluate.main, values, tmp_path, capsys)
    assert "is a BertForSequenceClassification; needed: ForCausalLM or LMHeadModel" in stderr
    assert "is a LlamaForCausalLM; needed: ForSequenceClassification" in stderr


def test_a_keyword_that_changes_the_shape_of_the_weights_is_refused(tiny, tmp_path, capsys):
    values = tiny.dpo(tmp_path / "run")
    values["from_pretrained"] |= {"hidden_size": 128, "num_hidden_layers": 2}
    stderr = run_refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert stderr == "error: from_pretrained.hidden_size: got 128; the base model has 64; remove it\n"
