"""A pre-quantized base model, as in the repositories of unsloth whose names end in bnb-4bit."""

import math
import shutil

import pytest
import torch
from test_train_dpo import set_up
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from response_generator.cli import preflight
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError
from response_generator.training import dpo_checks


@pytest.fixture(scope="module")
def quantized(tiny, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base") / "tiny-bnb-4bit"
    shutil.copytree(tiny.base, folder)
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    loading = {"quantization_config": quantization, "device_map": "cpu", "dtype": torch.bfloat16}
    AutoModelForCausalLM.from_pretrained(tiny.base, **loading).save_pretrained(folder)
    return str(folder)


def test_a_pre_quantized_base_is_trained_in_4_bits(tiny, quantized, tmp_path):
    arguments = validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run", base_model=quantized), "args.json")
    trainer, start, _ = set_up(arguments)
    assert trainer.model.is_loaded_in_4bit
    assert dpo_checks.check_start(trainer, start, None)["initial_loss"] == pytest.approx(math.log(2), abs=1e-6)


def test_an_export_of_a_pre_quantized_base_is_refused(tiny, quantized, tmp_path):
    values = tiny.dpo(tmp_path / "run", base_model=quantized, export={"path": str(tmp_path / "merged")})
    with pytest.raises(InputError, match="is pre-quantized; name its 16-bit original in export.base_model"):
        preflight.check_environment(validate_arguments(DPOArguments, values, "args.json"))
