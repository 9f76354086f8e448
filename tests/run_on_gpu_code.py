"""The program on unsloth's GPU code, without a GPU: run by test_gpu_contract.py.

    python run_on_gpu_code.py ARGS_FILE

unsloth chooses its GPU code or its CPU backend once a process, at import, so this is a process of its own. ARGS_FILE
holds the args of a training ("dpo"), of one of an adapter with embedding tables ("tables"), of an evaluation
("evaluate"), and of an SFT ("sft"), with bases that are not quantized: the kernels of 4-bit weights are the card's. It
prints one JSON object.
"""

import gc
import hashlib
import inspect
import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import unsloth_gpu_code  # it loads unsloth

# isort: split
import torch
import unsloth
from tiny_models import EMOTION_LABELS
from torch._dynamo.utils import counters as dynamo_counters
from transformers import TrainerCallback
from unsloth.utils import attention_dispatch
from unsloth_zoo.fused_losses.fused_linear import CALLS

from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.evaluation import pair_logprobs, pipeline
from response_generator.generation import continuous_batching, method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    build_generation_config,
    decode_reply,
)
from response_generator.generation.with_generate import sample_tokens
from response_generator.modeling import base_model, inference, loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.logprobs import completion_logps
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.tracking import Tracker
from response_generator.training import (
    dpo_checks,
    preparation,
    reference,
    run_training,
    sft_checks,
    trainer_config,
    trainer_setup,
)
from response_generator.training.cost import profiling
from response_generator.training.layout import batch_layout, layout_speed, prefix_kernel
from response_generator.training.monitoring import progress_bar, samples
from response_generator.training.monitoring.step_files import read_rows
from response_generator.training.training_method import DPO, SFT
from response_generator.training.trl_trainers import ResumableDPOTrainer, ResumableSFTTrainer

gc.freeze()  # unsloth collects garbage several times while it loads a model; what was imported is none
SAMPLES = {"every_steps": 1, "prompts": 3, "max_new_tokens": 8}


class Terminate(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def session(values: dict, output: str, *callbacks, sample_args: dict | None = None, **dpo) -> dict:
    """One process's worth of fine_tune_dpo.py, up to the trained adapter."""
    changed = {"output_dir": output, "dpo": values["dpo"] | dpo, "sample_replies": sample_args}
    arguments = validate_arguments(DPOArguments, values | changed, "args.json")
    config = trainer_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    frozen = loading.resolve_reference_adapter(arguments, start)
    tokenizer = load_tokenizer(arguments, start)
    rows, _ = read_pairs(arguments.dataset, EMOTION_LABELS)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    pairs = tokenize_pairs(rows, formatter, config.max_length)
    policy = loading.load_policy(arguments, start)
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, pairs, pairs, list(callbacks))
    if frozen:
        reference.load_reference_adapter(policy, frozen)
    told = None
    requests = samples.choose_prompts(rows, formatter, arguments.sample_replies, inference.context_length(arguments))
    file = Path(output, "samples.jsonl")
    bar = progress_bar.ProgressBar(len(pairs.rows), DPO.unit, DPO.bar_metrics)
    sample_replies = samples.SampleReplies(
        trainer, requests, arguments.sample_replies, arguments.seed, file, Tracker(), bar
    )
    trainer.add_callback(sample_replies)
    layout = batch_layout.choose_layout(trainer, arguments.dpo)
    metrics = dpo_checks.check_start(trainer, start, frozen)
    passes, kernel_calls = counted_passes(policy), CALLS["logprobs"]
    try:
        metrics |= run_training.train(trainer)
        sample_replies.write_last(metrics["steps"])
        dpo_checks.check_end(policy, start, frozen)
    except KeyboardInterrupt as interruption:
        told = str(interruption)
    run_training.save_adapter(policy, tokenizer, Path(output, "adapter"))
    return {
        "config": {name: str(value) for name, value in trainer.args.to_dict().items()},
        "facts": base_model.describe_model(policy)["model"],
        "adapters": list(policy.peft_config),
        "layout": layout,
        "dtypes": sorted({str(weight.dtype) for name, weight in policy.named_parameters() if of_an_adapter(name)}),
        "trained": sorted(name for name, weight in policy.named_parameters() if weight.requires_grad),
        "unsloths": unsloths_parts(policy, trainer),
        "lm_head_kernel_calls": CALLS["logprobs"] - kernel_calls,
        "passes_in_training": len(passes),
        "estimated_activations": profiling.estimate_run_memory(arguments, config, start, pairs).activations,
        "metrics": metrics,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "interrupted": told,
        "adapter": hashlib.sha256(Path(output, "adapter", "adapter_model.safetensors").read_bytes()).hexdigest(),
        "samples": read_rows(file),
    }


def evaluated_samples(values: dict, adapters: dict[str, str], sample_args: dict) -> dict[str, list[str]]:
    """Replies to the prompts of the samples, by the model as evaluate.py loads it."""
    arguments = validate_arguments(DPOArguments, values | {"sample_replies": sample_args}, "args.json")
    tokenizer = load_tokenizer(arguments, None)
    rows, _ = read_pairs(arguments.dataset, EMOTION_LABELS)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    requests = samples.choose_prompts(rows, formatter, arguments.sample_replies, inference.context_length(arguments))
    settings = samples.SETTINGS | {"max_new_tokens": arguments.sample_replies.max_new_tokens}
    params = SamplingParams(build_generation_config(settings, tokenizer), arguments.seed, samples=1)
    files = {name: AdapterFile.read(Path(folder)) for name, folder in adapters.items()}
    model = inference.load_model(arguments, files)
    found = {}
    for name, adapter in files.items():
        with inference.use_adapter(model, adapter, name):
            replies = list(continuous_batching.write_replies(model, requests, params, BatchLimit(len(requests))))
        replies.sort(key=lambda each: requests.index(each.request))
        found[name] = [decode_reply(each.samples[0], tokenizer) for each in replies]
    return found


def sft_session(values: dict, output: str, *callbacks, sample_args: dict | None = None) -> dict:
    """One process's worth of response_generator.sft, up to the trained adapter."""
    args = validate_arguments(SFTArguments, values | {"output_dir": output, "sample_replies": sample_args}, "args.json")
    dialogues, _ = read_dialogues(args.dataset, EMOTION_LABELS)
    prepared = preparation.prepare_sft(args, dialogues, dialogues[:2])
    policy = loading.load_policy(args, prepared.start, vocabulary_size=len(prepared.tokenizer))
    trainer = trainer_setup.build_trainer(
        ResumableSFTTrainer,
        policy,
        prepared.tokenizer,
        prepared.config,
        prepared.train,
        prepared.held_out,
        list(callbacks),
    )
    file = Path(output, "samples.jsonl")
    bar = progress_bar.ProgressBar(len(prepared.train.rows), SFT.unit, SFT.bar_metrics)
    trainer.add_callback(
        samples.SampleReplies(trainer, prepared.sample_requests, args.sample_replies, args.seed, file, Tracker(), bar)
    )
    metrics, told = sft_checks.check_start(trainer), None
    try:
        metrics |= run_training.train(trainer, SFT.unit)
    except KeyboardInterrupt as interruption:
        told = str(interruption)
    run_training.save_adapter(policy, prepared.tokenizer, Path(output, "adapter"))
    return {
        "config": {name: str(value) for name, value in trainer.args.to_dict().items()},
        "mlp": policy.get_base_model().model.layers[0].mlp.forward.__name__,
        "metrics": metrics,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "interrupted": told,
        "adapter": hashlib.sha256(Path(output, "adapter", "adapter_model.safetensors").read_bytes()).hexdigest(),
        "samples": read_rows(file),
    }


def of_an_adapter(name: str) -> bool:
    return ".lora_" in name or ".modules_to_save." in name


def counted_passes(policy) -> list[bool]:
    """A list that grows with every pass through the first layer in training, those for backward alone included."""
    passes = []
    layer = policy.get_base_model().model.layers[0]
    layer.register_forward_pre_hook(lambda layer, _: passes.append(True) if layer.training else None)
    return passes


def unsloths_parts(policy, trainer) -> dict[str, str]:
    """Names of the functions that run where a card has unsloth's in place of transformers' and PEFT's."""
    layer = policy.get_base_model().model.layers[0]
    return {
        "qkv": layer.self_attn.apply_qkv.__name__,
        "o": layer.self_attn.apply_o.__name__,
        "mlp": layer.mlp.forward.__name__,
        "loop": trainer._inner_training_loop.__name__,
        "lm_head": type(sys.modules["trl.trainer.utils"]._ChunkedLogProbFunction).__name__,
        "checkpointing_off": sys.modules["trl.trainer.dpo_trainer"].disable_gradient_checkpointing.__name__,
    }


def in_fp32(values: dict) -> dict:
    """Loads in fp32, where rounding hides no error."""
    return values | {"from_pretrained": values["from_pretrained"] | {"dtype": "float32"}}


def evaluation(values: dict) -> dict:
    """What evaluate.py computes of each adapter on one base: log-probabilities (nats) and replies as token ids."""
    arguments = validate_arguments(EvaluateArguments, in_fp32(values), "args.json")
    found = pipeline.resolve_adapters(arguments)
    tokenizer = load_tokenizer(arguments, found["adapter"])
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    dialogues, _ = read_dialogues(arguments.dataset, EMOTION_LABELS)
    requests = [GenerationRequest.of(dialogue, formatter) for dialogue in dialogues]
    texts = [(request.prompt_ids, request.gold_ids) for request in requests]
    config = build_generation_config(arguments.generation, tokenizer)
    pairs, _ = read_pairs(arguments.heldout_pairs.dataset, EMOTION_LABELS)
    pairs = tokenize_pairs(pairs, formatter, max_length=1024).rows
    model = inference.load_model(arguments, found)
    model.generation_config = model.get_base_model().generation_config = config
    report = {"facts": base_model.describe_model(model)["model"], "texts": texts}
    for name, adapter in found.items():
        with inference.use_adapter(model, adapter, name):
            report[name] = {
                "logps": completion_logps(model, texts, tokenizer.pad_token_id),
                "replies": sample_tokens(model, [each.prompt_ids for each in requests], config),
                "decoded": decode(model, requests, config),
                "pairs": pair_logprobs.compute_pair_logps(model, tokenizer.pad_token_id, pairs),
                "pairs_apart": pair_logprobs.compute_pair_logps_apart(model, tokenizer.pad_token_id, pairs),
            }
            report[name]["agree"] = method.replies_agree(model, config, requests)
    return report


def decode(model, requests: list[GenerationRequest], config) -> dict:
    """Replies and log-probabilities of gold replies by continuous batching, some rows at a time."""
    params = SamplingParams(config, seed=0, samples=2)
    found = continuous_batching.write_replies(model, requests, params, BatchLimit(3))
    found = sorted(found, key=lambda each: each.request.dialogue.index)
    return {"replies": [each.samples for each in found], "logps": [each.gold_logp for each in found]}


def fused_log_probabilities(values: dict, texts: list) -> list[float]:
    """Of a policy as it trains, by the fused kernels, in nats; without the dropout of training."""
    arguments = validate_arguments(DPOArguments, in_fp32(values), "args.json")
    policy = loading.load_policy(arguments, loading.resolve_initial_adapter(arguments)).train()
    for layer in policy.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return completion_logps(policy, texts, pad=0)


def both_layouts(values: dict, checkpointing: bool) -> dict[str, dict]:
    """Loss, log-probabilities and LoRA gradients of one batch in TRL's layout and with shared prompts, in fp32."""
    dpo = values["dpo"] | {"bf16": False, "gradient_checkpointing": checkpointing}
    arguments = validate_arguments(DPOArguments, in_fp32(values | {"dpo": dpo}), "args.json")
    config = trainer_config.build_dpo_config(arguments)
    tokenizer = load_tokenizer(arguments, loading.resolve_initial_adapter(arguments))
    pairs, _ = read_pairs(arguments.dataset, EMOTION_LABELS)
    pairs = tokenize_pairs(
        pairs, ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS), config.max_length
    )
    policy = loading.load_policy(arguments, loading.resolve_initial_adapter(arguments))
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, pairs, pairs, [])
    for name, weight in policy.named_parameters():
        if ".lora_B.ref." in name:
            weight.data *= 0.5  # a reference that differs from the policy
    for layer in policy.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    found = {}
    plain = trainer.data_collator
    layout = batch_layout.choose_layout(trainer, {"shared_prefix": True})
    with mock.patch.multiple(layout_speed, NUM_TIMED_BATCHES=1, NUM_ROUNDS=1):
        collators = {"plain": plain, layout: trainer.data_collator}
        speeds = layout_speed.measure_speeds(trainer, collators, with_reference=True)
    for name, collator in (("plain", plain), (layout, trainer.data_collator)):
        policy.for_training() if checkpointing else policy.train()
        policy.zero_grad()
        unsloth_gpu_code.FLEX_CALLS.clear()
        batch = trainer._prepare_inputs(collator(list(trainer.train_dataset)[:6]))
        loss = trainer.compute_loss(policy, batch)
        loss.backward()
        gradients = torch.cat([weight.grad.flatten() for weight in policy.parameters() if weight.requires_grad])
        found[name] = {
            "loss": loss.item(),
            "metrics": {key: values[-1] for key, values in trainer._metrics["train"].items() if key != "num_tokens"},
            "gradients": gradients.tolist(),
            "kernel_calls": len(unsloth_gpu_code.FLEX_CALLS),
            "pairs_per_second": speeds[name],
        }
        trainer._metrics["train"].clear()
    return found


def kernel_obstacles(values: dict) -> dict[str, str | None]:
    """Why unsloth's kernel for shared prompts cannot run: in the model, in one that caps its scores, in another one."""
    arguments = validate_arguments(DPOArguments, values, "args.json")
    model = loading.load_policy(arguments, loading.resolve_initial_adapter(arguments)).get_base_model()
    found = {"none": prefix_kernel.find_kernel_obstacle(model)}
    with mock.patch.object(model.config, "attn_logit_softcapping", 50.0, create=True):
        found["capped"] = prefix_kernel.find_kernel_obstacle(model)
    with mock.patch.object(type(model.get_decoder()), "forward", lambda self: None):
        found["other code"] = prefix_kernel.find_kernel_obstacle(model)
    return found


def with_flash_attention(values: dict, texts: list) -> dict:
    """What is recorded of a policy that asked for sdpa where flash-attn is installed, and its calls in one pass."""
    calls = []

    def flash_attn_func(queries, keys, values, causal):
        """flash-attn's; tensors are (sequences, tokens, heads, numbers)."""
        calls.append(True)
        by_head = [each.transpose(1, 2) for each in (queries, keys, values)]
        attended = torch.nn.functional.scaled_dot_product_attention(*by_head, is_causal=causal, enable_gqa=True)
        return attended.transpose(1, 2)

    sdpa = {"from_pretrained": values["from_pretrained"] | {"attn_implementation": "sdpa"}}
    arguments = validate_arguments(DPOArguments, values | sdpa, "args.json")
    installed = {"HAS_FLASH_ATTENTION": True, "flash_attn_func": flash_attn_func}
    with mock.patch.multiple(attention_dispatch, **installed):
        policy = loading.load_policy(arguments, loading.resolve_initial_adapter(arguments)).train()
        completion_logps(policy, texts, pad=0)
        return {"facts": base_model.describe_model(policy)["model"], "calls": len(calls)}


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    dpo = given["dpo"]
    report = {
        "signatures": {
            name: list(inspect.signature(getattr(unsloth.FastLanguageModel, name)).parameters)
            for name in ("from_pretrained", "patch_peft_model", "for_inference")
        },
        "trainers": [kind.__name__ for kind in ResumableDPOTrainer.__mro__],
        "whole": session(dpo, "whole"),
        "stopped": session(dpo, "run", Terminate()),
        "resumed": session(dpo, "run"),
        "checkpointed": session(
            dpo | {"reference_adapter": None}, "checkpointed", gradient_checkpointing=True, max_steps=1
        ),
        "sft_trainers": [kind.__name__ for kind in ResumableSFTTrainer.__mro__],
        "sft": sft_session(given["sft"], "sft"),
        "sft_stopped": sft_session(given["sft"], "sft_run", Terminate()),
        "sft_resumed": sft_session(given["sft"], "sft_run"),
        "sft_sampled": sft_session(given["sft"], "sft_sampled", sample_args=SAMPLES),
        "shared_prefix": session(dpo, "shared_prefix", shared_prefix=True, max_steps=1),
        "sampled": session(dpo, "sampled", sample_args=SAMPLES),
        "sampled_checkpointed": session(
            dpo | {"reference_adapter": None},
            "sampled_checkpointed",
            gradient_checkpointing=True,
            max_steps=1,
            sample_args=SAMPLES,
        ),
        "kernel_obstacles": kernel_obstacles(dpo),
        "layouts": [both_layouts(dpo, checkpointing) for checkpointing in (False, True)],
        "evaluation": evaluation(given["evaluate"]),
    }
    texts = report["evaluation"]["texts"]
    report |= {"fused_logps": fused_log_probabilities(dpo, texts), "flash": with_flash_attention(dpo, texts)}
    report["sampled_in_fp32"] = session(in_fp32(dpo), "sampled_in_fp32", bf16=False, max_steps=1, sample_args=SAMPLES)
    adapters = {"policy": dpo["adapter"], "reference": dpo["reference_adapter"], "trained": "sampled_in_fp32/adapter"}
    report["evaluated_samples"] = evaluated_samples(in_fp32(dpo), adapters, SAMPLES)
    report["tables"] = session(given["tables"], "tables")
    report["tables_sampled"] = session(given["tables"], "tables_sampled", sample_args=SAMPLES)
    trained = given["tables"] | {"adapter": "tables/adapter"}
    report["tables_again"] = session(trained, "tables_again", max_steps=1)
    os.environ["UNSLOTH_BLOCK_COMPILE"] = "1"
    report["compiled"] = session(dpo, "compiled", max_steps=1)
    report["compiled"]["graphs"] = dynamo_counters["stats"]["unique_graphs"]
    print("\n" + json.dumps(report))
