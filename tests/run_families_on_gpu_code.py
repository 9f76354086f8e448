"""The recipes of args/FAMILY on unsloth's GPU code, without a GPU: run by test_gpu_families.py.

    python run_families_on_gpu_code.py ARGS_FILE

ARGS_FILE holds the args of SFT ("sft"), DPO ("dpo") and an evaluation ("evaluate") of each family, with bases that are
not quantized. It prints one JSON object.
"""

import json
import os
import sys
from pathlib import Path

os.environ["UNSLOTH_COMPILE_DISABLE"] = "1"  # tracing Gemma's layers takes a minute
import unsloth_gpu_code  # noqa: F401 (it loads unsloth)

# isort: split
from run_on_gpu_code import sft_session
from tiny_models import EMOTION_LABELS

from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.evaluation import pipeline
from response_generator.generation import method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    build_generation_config,
)
from response_generator.modeling import inference, loading
from response_generator.modeling.backend import has_unsloth_forward
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.precision import BF16_VARIABLE
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training import dpo_checks, run_training, trainer_config, trainer_setup
from response_generator.training.layout import batch_layout
from response_generator.training.trl_trainers import ResumableDPOTrainer

os.environ[BF16_VARIABLE] = "1"  # the recipes train in bfloat16, which a card has, whatever this processor has


def train_dpo(values: dict) -> dict:
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = trainer_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    tokenizer = load_tokenizer(arguments, start)
    pairs, _ = read_pairs(arguments.dataset, EMOTION_LABELS)
    pairs = tokenize_pairs(
        pairs, ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS), config.max_length
    )
    policy = loading.load_policy(arguments, start)
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, pairs, None, [])
    layout = batch_layout.choose_layout(trainer, {"shared_prefix": True})  # "auto" would depend on the time
    metrics = dpo_checks.check_start(trainer, start, None)
    metrics |= run_training.train(trainer)
    dpo_checks.check_end(policy, start, None)
    run_training.save_adapter(policy, tokenizer, Path(arguments.output_dir, "adapter"))
    return {"metrics": metrics, "layout": layout, "fast_forward": has_unsloth_forward(policy.get_base_model())}


def generate_replies(values: dict) -> dict:
    """The method that an evaluation chooses, its replies with the trained adapter, and log-probabilities of gold
    replies."""
    arguments = validate_arguments(EvaluateArguments, values, "args.json")
    adapters = pipeline.resolve_adapters(arguments)
    tokenizer = load_tokenizer(arguments, adapters["adapter"])
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    dialogues, _ = read_dialogues(arguments.dataset, EMOTION_LABELS)
    requests = [GenerationRequest.of(dialogue, formatter) for dialogue in dialogues]
    config = build_generation_config(arguments.generation, tokenizer)
    model = inference.load_model(arguments, adapters)
    model.generation_config = model.get_base_model().generation_config = config
    params = SamplingParams(config, seed=0, samples=1)
    with inference.use_adapter(model, adapters["adapter"], "adapter"):
        chosen = method.choose_method(model, config, "auto", requests)
        limit = BatchLimit(len(requests))
        replies = method.generate(chosen, model, requests, params, limit, report=lambda finished: None)
        texts = [(request.prompt_ids, request.gold_ids) for request in requests]
        logps = completion_logps(model, texts, tokenizer.pad_token_id)
    return {"method": chosen, "replies": [each.samples[0] for each in replies], "logps": logps}


if __name__ == "__main__":
    report = {}
    for family, given in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")).items():
        report[family] = {
            "sft": sft_session(given["sft"], given["sft"]["output_dir"])["metrics"],
            "dpo": train_dpo(given["dpo"]),
            "evaluate": generate_replies(given["evaluate"]),
        }
    print("\n" + json.dumps(report))
