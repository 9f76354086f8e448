"""Adapters, bases and classifiers that are damaged, or of another kind: exit status 2, file and remedy named."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import run_here
from safetensors.torch import load_file, save_file

import evaluate
import fine_tune_dpo

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
A_LAYER = "base_model.model.model.layers.1.mlp.down_proj"


def write_config(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / (CONFIG if (folder / CONFIG).exists() else "config.json")
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return change


def write_text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def cut(name: str, share: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def with_header(header: bytes, length: int | None = None) -> Callable[[Path], None]:
    content = struct.pack("<Q", len(header) if length is None else length) + header
    return lambda folder: (folder / WEIGHTS).write_bytes(content)


def with_tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
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


def with_nan(tensors: dict) -> None:
    tensors[f"{A_LAYER}.lora_B.weight"][3, 1] = torch.nan


ADAPTERS = {
    "configuration is a list": (write_text(CONFIG, "[]"), "adapter_config.json: holds a list; needed: one JSON object"),
    "configuration is broken": (write_text(CONFIG, "{"), "adapter_config.json: broken JSON"),
    "configuration is empty": (write_text(CONFIG, ""), "adapter_config.json: broken JSON"),
    "configuration repeats a key": (write_text(CONFIG, '{"r": 4, "r": 8}'), "r: written twice"),
    "another kind of adapter": (write_config(peft_type="IA3"), "peft_type is 'IA3'; allowed: LORA"),
    "rank other than its tensors": (write_config(r=8), "has rank 4 in adapter_model.safetensors, 8 in adapter_config"),
    "rank is text": (write_config(r="four"), "PEFT cannot add it to base_model"),
    "target is no layer": (write_config(target_modules=["query"]), "PEFT cannot add it to base_model"),
    "a layer that is not its target": (write_config(target_modules=["q_proj"]), "does not ask for"),
    "lacks tensors": (
        with_tensors(lambda tensors: tensors.pop(f"{A_LAYER}.lora_B.weight")),
        f"lacks 1 of 12 tensors that its adapter_config.json asks for on this base model, for example {A_LAYER}.lora_B",
    ),
    "lacks a layer": (
        write_config(target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks 4 of 16 tensors",
    ),
    "NaN": (with_tensors(with_nan), f"{A_LAYER}.lora_B.weight holds NaN or infinity: the training that wrote it"),
    "cut short": (cut(WEIGHTS, 0.7), "adapter_model.safetensors: is damaged or cut short"),
    "nothing in it": (cut(WEIGHTS, 0), "is damaged or cut short"),
    "header is no JSON": (with_header(b"{not json}"), "is damaged or cut short"),
    "header is longer than the file": (with_header(b"{}", length=2**40), "is damaged or cut short"),
    "header nests deep": (with_header(b"[" * 20000), "is damaged or cut short"),
    "tensors are missing": (remove(WEIGHTS), "holds no adapter_model.safetensors; pickled weights (.bin)"),
}
MODELS = {
    "configuration is broken": (write_text("config.json", '{"a": '), "config.json: broken JSON"),
    "configuration is empty": (write_text("config.json", "{}"), "config.json: has no model_type"),
    "configuration is a list": (write_text("config.json", "[]"), "config.json: holds a list"),
    "unknown kind of model": (write_config(model_type="lama"), "lama"),
    "a kind of number in it": (write_config(hidden_size="wide"), "hidden_size"),
    "tokenizer is missing": (remove("tokenizer.json", "tokenizer_config.json"), "holds no tokenizer"),
    "tokenizer is broken": (cut("tokenizer.json", 0.5), "tokenizer cannot be loaded"),
    "tokenizer is empty": (write_text("tokenizer.json", "{}"), "tokenizer cannot be loaded"),
    "weights are missing": (remove("model.safetensors"), "holds no model.safetensors"),
    "weights are cut short": (cut("model.safetensors", 0.9), "model.safetensors: is damaged or cut short"),
}


def damaged(source: str | Path, place: Path, change: Callable[[Path], None]) -> str:
    """A copy of a folder, changed."""
    shutil.copytree(source, place)
    change(place)
    return str(place)


def refused(main: Callable[[], None], values: dict, folder: Path, capsys) -> str:
    """What a script says when it refuses; nothing may be written."""
    assert run_here(main, values, folder) == 2
    assert not Path(values["output_dir"]).exists()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("case", ADAPTERS)
def test_damaged_adapters(tiny, tmp_path, capsys, case):
    change, words = ADAPTERS[case]
    values = tiny.dpo(tmp_path / "run", adapter=damaged(tiny.adapter, tmp_path / "sft", change))
    said = refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert said.startswith(f"error: adapter: {tmp_path / 'sft'}") and words in said


@pytest.mark.parametrize("case", MODELS)
def test_damaged_bases(tiny, tmp_path, capsys, case):
    change, words = MODELS[case]
    values = tiny.dpo(tmp_path / "run", base_model=damaged(tiny.base, tmp_path / "base", change))
    said = refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert said.startswith("error: base_model: ") and words in said


@pytest.mark.parametrize("case", ["configuration is broken", "tokenizer is broken", "weights are cut short"])
def test_damaged_classifiers_are_told_before_any_reply(tiny, tmp_path, capsys, case):
    change, words = MODELS[case]
    values = tiny.evaluate(tmp_path / "run")
    values["scoring"]["gibberish_model"] = damaged(tiny.folder / "gibberish", tmp_path / "gibberish", change)
    said = refused(evaluate.main, values, tmp_path, capsys)
    assert said.startswith("error: scoring.gibberish_model: ")
    assert words in said or "cannot be loaded" in said


def test_parts_that_an_index_names_must_be_there(tiny, tmp_path, capsys):
    shutil.copytree(tiny.base, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    write_text("model.safetensors.index.json", json.dumps(index))(tmp_path / "base")
    values = tiny.dpo(tmp_path / "run", base_model=str(tmp_path / "base"))
    said = refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert "lacks model-2.safetensors, named in model.safetensors.index.json" in said


def test_a_model_of_another_kind_would_get_a_random_head(tiny, tmp_path, capsys):
    values = tiny.evaluate(tmp_path / "run", base_model=str(tiny.folder / "emotion"))
    values["scoring"]["gibberish_model"] = tiny.base
    said = refused(evaluate.main, values, tmp_path, capsys)
    assert "is a BertForSequenceClassification; needed: ForCausalLM or LMHeadModel" in said
    assert "is a LlamaForCausalLM; needed: ForSequenceClassification" in said


def test_a_field_that_changes_the_shape_of_the_weights_is_refused(tiny, tmp_path, capsys):
    values = tiny.dpo(tmp_path / "run")
    values["from_pretrained"] |= {"hidden_size": 128, "num_hidden_layers": 2}
    said = refused(fine_tune_dpo.main, values, tmp_path, capsys)
    assert said == "error: from_pretrained.hidden_size: got 128; the base model has 64; remove it\n"
