"""Adapter files are checked against base models without loading weights."""

import pytest
from tiny_models import write_tiny_adapter, write_tiny_base
from transformers import AutoConfig, AutoModelForCausalLM

from response_generator.errors import InputError
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import to_model_key


def test_an_adapter_fits_its_own_base(tiny):
    adapter = AdapterFile.read(tiny.folder / "adapter")
    adapter.check_fits("adapter", AutoConfig.from_pretrained(tiny.base))
    assert adapter.embedding_rows is None
    assert not adapter.has_tokenizer


def test_an_adapter_with_other_shapes_than_the_base_is_refused(tiny, tmp_path):
    write_tiny_base(tmp_path / "wide", hidden=128)
    with pytest.raises(InputError, match="made for another base model .* 128 in features in the adapter, 256 in base"):
        AdapterFile.read(tiny.folder / "adapter").check_fits("adapter", AutoConfig.from_pretrained(tmp_path / "wide"))


def test_an_adapter_for_a_missing_layer_is_refused(tiny):
    config = AutoConfig.from_pretrained(tiny.base, num_hidden_layers=1)
    with pytest.raises(
        InputError, match=r"made for another base model .*base_model has no such layer: model\.layers\.1\."
    ):
        AdapterFile.read(tiny.folder / "adapter").check_fits("adapter", config)


def test_a_truncated_file_is_refused(tiny, tmp_path):
    write_tiny_adapter(tiny.folder / "base", tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="adapter_model.safetensors: is damaged or cut short"):
        AdapterFile.read(tmp_path)


def test_to_model_key_names_the_tensors_in_the_model(tiny, tmp_path):
    from peft import PeftModel

    write_tiny_adapter(tiny.folder / "base", tmp_path, modules_to_save=["embed_tokens", "lm_head"])
    adapter = AdapterFile.read(tmp_path)
    assert adapter.embedding_rows == AutoConfig.from_pretrained(tiny.base).vocab_size
    base = AutoModelForCausalLM.from_pretrained(tiny.base)
    weights = dict(PeftModel.from_pretrained(base, tmp_path, adapter_name="other").named_parameters())
    for name, tensor in adapter.tensors().items():
        assert weights[to_model_key(name, "other")].shape == tensor.shape
