"""Llama 3, Qwen 3 and Gemma 3 on unsloth's GPU code, checked where there is no GPU: the recipes in args/FAMILY."""

import json
from pathlib import Path

import pytest
from peft import PeftModel
from script_runs import run_on_gpu_code
from tiny_families import FAMILIES, read_recipe, write_tiny_family
from tiny_models import EMOTION_LABELS
from transformers import AutoModelForCausalLM

from response_generator.config.schema import EvaluateArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.reading import read_dialogues
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def family_args(tiny, tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("families")
    dialogues = {"path": str(tiny.folder / "dialogues.jsonl"), "limit": 4}
    pairs = {"path": str(tiny.folder / "pairs.jsonl"), "limit": 4}
    found = {}
    for family in FAMILIES:
        base, start = folder / family, str(folder / f"{family}_sft" / "adapter")
        write_tiny_family(family, base)
        trained = str(folder / f"{family}_dpo" / "adapter")
        found[family] = {
            "sft": read_recipe(family, "sft", base, folder / f"{family}_sft", dataset=dialogues, eval_dataset=None),
            "dpo": read_recipe(family, "dpo", base, folder / f"{family}_dpo", dataset=pairs, adapter=start),
            "evaluate": read_recipe(
                family, "evaluate", base, folder / "unused", dataset=dialogues, adapter=trained, baseline_adapter=start
            ),
        }
        for values in found[family].values():
            values["from_pretrained"]["load_in_4bit"] = False  # the kernels of 4-bit weights are the card's
    for values in found.values():
        values["evaluate"]["generation"] = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": False}
    return found


@pytest.fixture(scope="module")
def on_gpu_code(family_args, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("families_on_gpu_code")
    return json.loads(run_on_gpu_code("run_families_on_gpu_code.py", family_args, folder)[-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_training_takes_two_steps_from_the_reference(family, on_gpu_code):
    assert on_gpu_code[family]["sft"]["steps"] == 2
    found = on_gpu_code[family]["dpo"]
    assert found["metrics"]["steps"] == 2 and found["metrics"]["initial_max_logp_gap"] < 0.1
    # Gemma's layers with sliding attention are not in unsloth's fast models.
    is_fast = family != "gemma3"
    assert found["fast_forward"] == is_fast
    assert found["layout"] == ("shared prefix" if is_fast else "TRL")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trained_adapter_is_evaluated_as_under_plain_transformers(family, on_gpu_code, family_args):
    values = family_args[family]["evaluate"]
    arguments = validate_arguments(EvaluateArguments, values, "args.json")
    adapter = AdapterFile.read(Path(arguments.adapter))
    tokenizer = load_tokenizer(arguments, adapter)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    requests = [GenerationRequest.of(each, formatter) for each in read_dialogues(arguments.dataset, EMOTION_LABELS)[0]]
    base = AutoModelForCausalLM.from_pretrained(arguments.base_model, dtype="float32", attn_implementation="eager")
    model = PeftModel.from_pretrained(base, arguments.adapter)
    texts = [(request.prompt_ids, request.gold_ids) for request in requests]
    expected = completion_logps(model, texts, tokenizer.pad_token_id)
    found = on_gpu_code[family]["evaluate"]
    assert found["logps"] == pytest.approx(expected, rel=0.02)  # in bfloat16
    assert found["method"] == ("generate" if family == "gemma3" else "continuous batching")
    assert all(2 <= len(reply) <= 8 for reply in found["replies"])
