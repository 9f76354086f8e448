"""Adapters that hold embedding matrices: loaded without rounding, saved once, usable in another run. In bf16."""

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
from tiny_models import EMOTION_LABELS
from transformers import AutoModelForCausalLM

from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.evaluation import pipeline
from response_generator.modeling import inference, loading, merged_model
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import to_model_key
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training import dpo_checks, reference, run_training, trainer_config, trainer_setup
from response_generator.training.cost import memory
from response_generator.training.trl_trainers import ResumableDPOTrainer

TABLES = ("base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight")
ADAPTERS = ("adapter_two_tables", "adapter_three_copies")


def train(values: dict, *callbacks):
    """Trains as fine_tune_dpo.py does; returns the trainer, the initial adapter and the folder of the trained one."""
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = trainer_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    reference_adapter = loading.resolve_reference_adapter(arguments, start)
    tokenizer = load_tokenizer(arguments, start)
    tokens = tokenize_pairs(
        PAIRS, ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS), config.max_length
    )
    policy = loading.load_policy(arguments, start)
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, tokens, None, list(callbacks))
    if reference_adapter:
        reference.load_reference_adapter(policy, reference_adapter)
    dpo_checks.check_start(trainer, start, reference_adapter)
    run_training.train(trainer)
    dpo_checks.check_end(policy, start, reference_adapter)
    folder = trainer.args.output_dir + "/adapter"
    run_training.save_adapter(policy, tokenizer, Path(folder))
    return trainer, start, folder


def read_weights(folder) -> bytes:
    return (Path(folder) / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tiny, published, tmp_path_factory):
    """What `train` returns for each adapter, by its name."""
    folder = tmp_path_factory.mktemp("tables")
    return {name: train(published_dpo(tiny, published, folder / name, name)) for name in ADAPTERS}


@pytest.mark.parametrize("name", ADAPTERS)
def test_embeddings_are_loaded_in_fp32_and_only_the_policy_learns(name, trained):
    trainer, start, _ = trained[name]
    weights = dict(trainer.model.named_parameters())
    tensors = start.tensors()
    assert set(TABLES) <= set(tensors)
    for table in TABLES:
        frozen = weights[to_model_key(table, "ref")]
        assert frozen.dtype == torch.float32 and not frozen.requires_grad
        assert torch.equal(frozen, tensors[table].float())
        policy = weights[to_model_key(table, "default")]
        assert policy.dtype == torch.float32 and policy.requires_grad
        assert not torch.equal(policy, frozen)
    assert trainer.model.get_base_model().dtype == torch.bfloat16


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_embedding_matrix_is_saved_once(name, trained):
    trainer, start, folder = trained[name]
    tensors = load_file(f"{folder}/adapter_model.safetensors")
    assert set(tensors) == set(start.shapes)
    assert {tensors[table].dtype for table in TABLES} == {torch.float32}
    parameters = sum(tensor.numel() for tensor in tensors.values())
    checkpoint = Path(trainer.args.output_dir, "checkpoint-2")
    sizes = {file.name: file.stat().st_size for file in checkpoint.iterdir()}
    assert sizes["adapter_model.safetensors"] == os.path.getsize(f"{folder}/adapter_model.safetensors")
    # Each parameter is stored in fp32, and so are its two Adam moments.
    size = sizes["adapter_model.safetensors"] + sizes["optimizer.pt"]
    assert 4 * 3 * parameters < size < 1.1 * 4 * 3 * parameters


def test_copies_of_an_embedding_matrix_are_counted_once(published, trained):
    shapes = {name: memory.get_trained_shapes(AdapterFile.read(published / name)) for name in ADAPTERS}
    assert shapes["adapter_three_copies"] == shapes["adapter_two_tables"]
    (trainer, _, _) = trained["adapter_three_copies"]
    trainable = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    assert memory.count_parameters(shapes["adapter_three_copies"]) == trainable


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_resumed_run_writes_the_same_adapter(name, tiny, published, trained, tmp_path):
    values = published_dpo(tiny, published, tmp_path / "run", name)
    with pytest.raises(KeyboardInterrupt):
        train(values, At(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    _, _, folder = train(values)
    assert read_weights(folder) == read_weights(trained[name][2])


def test_the_trained_adapter_can_be_initial_and_reference_adapter(tiny, published, trained, tmp_path):
    folder = trained["adapter_two_tables"][2]
    values = published_dpo(tiny, published, tmp_path / "second", "adapter_two_tables") | {"adapter": folder}
    trainer, start, _ = train(values)
    frozen = trainer.model.get_parameter(to_model_key(TABLES[0], "ref"))
    assert torch.equal(frozen, load_file(f"{folder}/adapter_model.safetensors")[TABLES[0]])
    values = published_dpo(tiny, published, tmp_path / "other", "adapter_two_tables")
    trainer, _, _ = train(values | {"reference_adapter": folder})
    frozen = trainer.model.get_parameter(to_model_key(TABLES[0], "ref"))
    assert torch.equal(frozen, load_file(f"{folder}/adapter_model.safetensors")[TABLES[0]])


def test_trained_and_initial_adapter_are_evaluated_on_one_base(tiny, published, trained, tmp_path):
    """PEFT loads the embeddings in the base's bf16 here, so log-probabilities differ from fp32 by rounding."""
    folder = trained["adapter_two_tables"][2]
    dpo = published_dpo(tiny, published, tmp_path, "adapter_two_tables")
    values = tiny.evaluate(tmp_path, **{key: dpo[key] for key in ("base_model", "from_pretrained", "chat_template")})
    values |= {"adapter": folder, "baseline_adapter": dpo["adapter"]}
    arguments = validate_arguments(EvaluateArguments, values, "args.json")
    adapters = pipeline.resolve_adapters(arguments)
    model = inference.load_model(arguments, adapters)
    pair = ([1, 5, 9, 500, 17], [30, 504, 2])  # ids from 500 on are added tokens
    for name, file in (("baseline", dpo["adapter"]), ("adapter", folder)):
        with inference.use_adapter(model, adapters[name], name):
            (logp,) = completion_logps(model, [pair], pad=500)
        base = AutoModelForCausalLM.from_pretrained(published / "base", dtype=torch.float32)
        base.resize_token_embeddings(505, mean_resizing=False)
        (expected,) = completion_logps(PeftModel.from_pretrained(base, file).eval(), [pair], pad=500)
        assert logp == pytest.approx(expected, rel=0.02)


def test_the_exported_model_has_the_trained_embeddings(tiny, published, trained, tmp_path):
    folder = trained["adapter_two_tables"][2]
    values = published_dpo(tiny, published, tmp_path / "run", "adapter_two_tables")
    values |= {"export": {"path": str(tmp_path / "merged")}}
    values["from_pretrained"].pop("dtype")
    merged_model.merge_adapter(validate_arguments(DPOArguments, values, "args.json"), Path(folder), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tables = load_file(f"{folder}/adapter_model.safetensors")
    assert torch.equal(merged.lm_head.weight, tables[TABLES[0]].bfloat16())
    assert torch.equal(merged.model.embed_tokens.weight, tables[TABLES[1]].bfloat16())
