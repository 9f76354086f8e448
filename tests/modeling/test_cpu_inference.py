"""Faster inference on a processor computes the same numbers, and leaves the model as it was."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from tiny_models import write_tiny_adapter
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from response_generator.modeling import cpu_inference
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.cpu_inference import DenseLinear, fast_cpu_inference

IDS = torch.tensor([[3, 50, 60, 70, 80, 90], [0, 0, 3, 51, 61, 71]])
MASK = (IDS != 0).long()


@pytest.fixture(scope="module")
def four_bit_model(tiny, tmp_path_factory):
    """Of 4-bit weights and float32 activations, with two adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        tiny.base, quantization_config=quantized, dtype=torch.float32, device_map="cpu"
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # as both backends load it
    for name, seed in (("one", 1), ("two", 2)):
        write_tiny_adapter(tiny.folder / "base", folder / name, seed=seed)
        model = add_adapter(model, AdapterFile.read(folder / name), name)
    return model.eval()


@torch.inference_mode()
def compute(model) -> torch.Tensor:
    """Logits of a padded batch and of one more token after it."""
    positions = (MASK.cumsum(-1) - 1).clamp(min=0)
    output = model(input_ids=IDS, attention_mask=MASK, position_ids=positions, use_cache=True)
    mask = torch.cat([MASK, torch.ones(2, 1, dtype=torch.long)], 1)
    last = model(
        input_ids=torch.tensor([[40], [41]]),
        attention_mask=mask,
        position_ids=mask.sum(-1, keepdim=True) - 1,
        past_key_values=output.past_key_values,
    )
    return torch.cat([output.logits[:, 2:], last.logits], 1)


@pytest.mark.parametrize("active", ["one", "two", None])
def test_logits_are_the_same_for_each_adapter(active, four_bit_model):
    model = four_bit_model
    kinds = [type(module) for module in model.modules()]
    attention = model.config._attn_implementation
    assert attention == "sdpa"
    if active:
        model.set_adapter(active)
    else:
        model.base_model.disable_adapter_layers()
    try:
        expected = compute(model)
        with fast_cpu_inference(model):
            assert not any(isinstance(module, Linear4bit) for module in model.modules())
            assert model.config._attn_implementation == cpu_inference.GROUPED_SDPA
            torch.testing.assert_close(compute(model), expected, atol=1e-4, rtol=1e-4)
    finally:
        model.base_model.enable_adapter_layers()
    assert [type(module) for module in model.modules()] == kinds
    assert model.config._attn_implementation == attention


def test_adapters_give_different_logits(four_bit_model):
    found = []
    for name in ("one", "two"):
        four_bit_model.set_adapter(name)
        with fast_cpu_inference(four_bit_model):
            found.append(compute(four_bit_model))
    assert (found[0] - found[1]).abs().max() > 0.1


def test_the_model_is_restored_after_an_error(four_bit_model):
    with pytest.raises(KeyboardInterrupt), fast_cpu_inference(four_bit_model):
        raise KeyboardInterrupt
    assert not any(isinstance(module, DenseLinear) for module in four_bit_model.modules())


def test_other_kinds_of_lora_stay_as_they_are(tiny):
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj"], use_dora=True, init_lora_weights=False)).eval()
    expected = compute(model)
    with fast_cpu_inference(model):
        assert not any(isinstance(module, DenseLinear) for module in model.modules())
        torch.testing.assert_close(compute(model), expected, atol=1e-4, rtol=1e-4)


def test_weights_stay_in_four_bits_where_memory_is_short(four_bit_model, monkeypatch):
    monkeypatch.setattr(cpu_inference, "MAX_MEMORY_SHARE", 0.0)
    with fast_cpu_inference(four_bit_model):
        assert any(isinstance(module, Linear4bit) for module in four_bit_model.modules())
