"""Adapters that bring embedding tables: loaded as the file has them, saved once, good for another run. In bf16."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import published_dpo
from peft import PeftModel
from safetensors.torch import load_file
from test_resume import At
from test_train_dpo import PAIRS
from transformers import AutoModelForCausalLM

from response_generator.config.schema import DPOArguments, EvaluateArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.tokenization import tokenize_pairs
from response_generator.evaluation import models
from response_generator.modeling import loading, merge
from response_generator.modeling.adapters import AdapterFile, to_model_key
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training import dpo_config, memory, reference, sanity_checks, train_dpo

TABLES = ("base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight")
ADAPTERS = ("adapter_two_tables", "adapter_three_copies")


def train(values: dict, *callbacks):
    """fine_tune_dpo.py on these args, up to the saved adapter: `(trainer, start, the adapter's folder)`."""
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = dpo_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    frozen = loading.resolve_reference_adapter(arguments, start)
    tokenizer = load_tokenizer(arguments, start)
    tokens = tokenize_pairs(PAIRS, ChatFormatter.of(tokenizer, arguments.chat_template), config.max_length)
    policy = loading.load_policy(arguments, start)
    trainer = train_dpo.build_trainer(policy, tokenizer, config, tokens, None, list(callbacks))
    if frozen:
        reference.replace_reference(policy, frozen)
    sanity_checks.check_start(trainer, start, frozen)
    train_dpo.train(trainer)
    sanity_checks.check_end(policy, start, frozen)
    folder = trainer.args.output_dir + "/adapter"
    train_dpo.save_adapter(policy, tokenizer, Path(folder))
    return trainer, start, folder


def bytes_of(folder) -> bytes:
    return (Path(folder) / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tiny, published, tmp_path_factory):
    """`{adapter: (trainer, start, folder of the trained adapter)}`"""
    folder = tmp_path_factory.mktemp("tables")
    return {name: train(published_dpo(tiny, published, folder / name, name)) for name in ADAPTERS}


@pytest.mark.parametrize("name", ADAPTERS)
def test_policy_and_reference_hold_the_values_of_the_file(name, trained):
    trainer, start, _ = trained[name]
    weights = dict(trainer.model.named_parameters())
    tensors = start.tensors()
    assert set(TABLES) <= set(tensors)
    for table in TABLES:
        held = weights[to_model_key(table, "ref")]
        assert held.dtype == torch.float32 and not held.requires_grad
        assert torch.equal(held, tensors[table].float())
        policy = weights[to_model_key(table, "default")]
        assert policy.dtype == torch.float32 and policy.requires_grad
        assert not torch.equal(policy, held)  # it has learned
    assert trainer.model.get_base_model().dtype == torch.bfloat16


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_table_is_saved_once(name, trained):
    trainer, start, folder = trained[name]
    tensors = load_file(f"{folder}/adapter_model.safetensors")
    assert set(tensors) == set(start.shapes)
    assert {tensors[table].dtype for table in TABLES} == {torch.float32}
    numbers = sum(tensor.numel() for tensor in tensors.values())
    checkpoint = Path(trainer.args.output_dir, "checkpoint-2")
    sizes = {file.name: file.stat().st_size for file in checkpoint.iterdir()}
    assert sizes["adapter_model.safetensors"] == os.path.getsize(f"{folder}/adapter_model.safetensors")
    # LoRA and two tables in fp32, and two moments of each.
    held = sizes["adapter_model.safetensors"] + sizes["optimizer.pt"]
    assert 4 * 3 * numbers < held < 1.1 * 4 * 3 * numbers


def test_three_copies_are_counted_once(published, trained):
    shapes = {name: memory.get_trained_shapes(AdapterFile.read(published / name)) for name in ADAPTERS}
    assert shapes["adapter_three_copies"] == shapes["adapter_two_tables"]
    (trainer, _, _) = trained["adapter_three_copies"]
    learned = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    assert memory.count_parameters(shapes["adapter_three_copies"]) == learned


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_stopped_run_resumes_to_the_same_bytes(name, tiny, published, trained, tmp_path):
    values = published_dpo(tiny, published, tmp_path / "run", name)
    with pytest.raises(KeyboardInterrupt):
        train(values, At(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    _, _, folder = train(values)
    assert bytes_of(folder) == bytes_of(trained[name][2])


def test_the_trained_adapter_starts_another_run_and_is_a_reference(tiny, published, trained, tmp_path):
    folder = trained["adapter_two_tables"][2]
    values = published_dpo(tiny, published, tmp_path / "second", "adapter_two_tables") | {"adapter": folder}
    trainer, start, _ = train(values)
    held = trainer.model.get_parameter(to_model_key(TABLES[0], "ref"))
    assert torch.equal(held, load_file(f"{folder}/adapter_model.safetensors")[TABLES[0]])
    values = published_dpo(tiny, published, tmp_path / "other", "adapter_two_tables")
    trainer, _, _ = train(values | {"reference_adapter": folder})
    held = trainer.model.get_parameter(to_model_key(TABLES[0], "ref"))
    assert torch.equal(held, load_file(f"{folder}/adapter_model.safetensors")[TABLES[0]])


def test_the_trained_adapter_is_evaluated_beside_the_one_it_started_from(tiny, published, trained, tmp_path):
    """In the base's bf16, as PEFT loads it: how likely a reply is differs from fp32 by rounding alone."""
    folder = trained["adapter_two_tables"][2]
    dpo = published_dpo(tiny, published, tmp_path, "adapter_two_tables")
    values = tiny.evaluate(tmp_path, **{key: dpo[key] for key in ("base_model", "from_pretrained", "chat_template")})
    values |= {"adapter": folder, "baseline_adapter": dpo["adapter"]}
    arguments = validate_arguments(EvaluateArguments, values, "args.json")
    sides = models.resolve_adapters(arguments)
    model_of_both = models.load_model(arguments, sides)
    pair = ([1, 5, 9, 500, 17], [30, 504, 2])  # of the base's and of the added tokens
    for name, file in (("baseline", dpo["adapter"]), ("adapter", folder)):
        with models.use_adapter(model_of_both, sides[name], name):
            (found,) = completion_logps(model_of_both, [pair], pad=500)
        base = AutoModelForCausalLM.from_pretrained(published / "base", dtype=torch.float32)
        base.resize_token_embeddings(505, mean_resizing=False)
        (expected,) = completion_logps(PeftModel.from_pretrained(base, file).eval(), [pair], pad=500)
        assert found == pytest.approx(expected, rel=0.02)


def test_the_trained_adapter_is_exported_with_its_tables(tiny, published, trained, tmp_path):
    folder = trained["adapter_two_tables"][2]
    values = published_dpo(tiny, published, tmp_path / "run", "adapter_two_tables")
    values |= {"export": {"path": str(tmp_path / "merged")}}
    values["from_pretrained"].pop("dtype")
    merge.merge_adapter(validate_arguments(DPOArguments, values, "args.json"), Path(folder))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tables = load_file(f"{folder}/adapter_model.safetensors")
    assert torch.equal(merged.lm_head.weight, tables[TABLES[0]].bfloat16())
    assert torch.equal(merged.model.embed_tokens.weight, tables[TABLES[1]].bfloat16())
