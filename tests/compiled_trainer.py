"""The project's trainer on unsloth's compiled GPU trainer, without a GPU: run by test_gpu_contract.py.

    python compiled_trainer.py ARGS_FILE

unsloth chooses its GPU code or its CPU backend once a process, at import, so this is a process of its own. It trains
what ARGS_FILE says three times, on an unquantised copy of the base (the kernels of 4-bit weights are the card's):
uninterrupted, then stopped by SIGTERM after three steps, then resumed. It prints one JSON object.
"""

import inspect
import json
import os
import signal
import sys
from pathlib import Path

os.environ |= {"UNSLOTH_ALLOW_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
import unsloth  # noqa: I001  (first, and with its GPU code)
from unsloth.models.rl import _patch_trl_rl_trainers
from unsloth_zoo.cpu.ops import patch_trl_fused_lm_head

_patch_trl_rl_trainers("dpo_trainer")  # what the import itself does where there is a card
patch_trl_fused_lm_head()  # TRL's loss is a Triton kernel; this is unsloth's own twin of it for processors

import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from response_generator import checks, configuration, model, reference, training
from response_generator.arguments import DPOArguments
from response_generator.chat_template import Renderer
from response_generator.data import read_pairs
from response_generator.pairs import tokenised
from response_generator.trainer import PreferenceTrainer
from response_generator.validation import validated


class Terminate(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def session(values: dict, output: str, *callbacks) -> dict:
    """One process's worth of fine_tune_dpo.py, up to the trained adapter."""
    arguments = validated(DPOArguments, values | {"output_dir": output}, "args.json")
    config = configuration.training_config(arguments)
    start = model.find_start(arguments)
    frozen = model.find_reference(arguments, start)
    tokenizer = model.load_tokenizer(arguments, start)
    pairs = tokenised(read_pairs(arguments.dataset), Renderer.of(tokenizer, arguments.chat_template), config.max_length)
    base = AutoModelForCausalLM.from_pretrained(arguments.base_model, dtype=torch.float32).requires_grad_(False)
    policy = model.add_adapter(base, start, model.TRAINED, trainable=True)
    trainer = training.build_trainer(policy, tokenizer, config, pairs, pairs, list(callbacks))
    if frozen:
        reference.replace(policy, frozen)
    told = None
    metrics = checks.check_start(trainer, start, frozen)
    try:
        metrics |= training.train(trainer)
        checks.check_end(policy, start, frozen)
    except KeyboardInterrupt as interruption:
        told = str(interruption)
    return {
        "config": {name: str(value) for name, value in trainer.args.to_dict().items()},
        "adapters": list(policy.peft_config),
        "dtypes": sorted({str(weight.dtype) for name, weight in policy.named_parameters() if ".lora_" in name}),
        "trained": sorted(name for name, weight in policy.named_parameters() if weight.requires_grad),
        "metrics": metrics,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "interrupted": told,
        "weights": {n: w.double().sum().item() for n, w in policy.named_parameters() if w.requires_grad},
    }


if __name__ == "__main__":
    values = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    report = {
        "signatures": {
            name: list(inspect.signature(getattr(unsloth.FastLanguageModel, name)).parameters)
            for name in ("from_pretrained", "patch_peft_model", "for_inference")
        },
        "trainers": [kind.__name__ for kind in PreferenceTrainer.__mro__],
        "whole": session(values, "whole"),
        "stopped": session(values, "run", Terminate()),
        "resumed": session(values, "run"),
    }
    print("\n" + json.dumps(report))
