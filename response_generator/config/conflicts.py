"""Values that do not go together, told before anything loads; the libraries would tell later, or never."""

import re
from collections.abc import Iterator
from typing import Any

LOSS_TYPES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
).split()
F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
LOSSES_WITH_F_DIVERGENCE = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
HELD_OUT_METRICS = (
    "loss rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/chosen logps/rejected "
    "logits/chosen logits/rejected mean_token_accuracy entropy"
).split()
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
DEVICE_MAP = r"auto|balanced|balanced_low_0|sequential|cpu|(cuda|xpu)(:\d+)?"
DTYPES = ("bfloat16", "float16", "float32")
SAMPLING_STRATEGIES = ("random", "group_by_length", "sequential")
REFUSED_KEYS = {
    "sync_ref_model": "TRL cannot do it with an adapter",
    "save_only_model": "such a checkpoint cannot be resumed from",
    "ignore_data_skip": "a resumed run would see other pairs than an uninterrupted one",
    "auto_find_batch_size": "it would change the batch, and the results, in mid-run",
    "remove_unused_columns": "the rows hold tokens and lengths, and both are used",
    "enable_jit_checkpoint": "SIGTERM saves a checkpoint in any case",
    "padding_free": "TRL 1.15 has switched it off",
    "eval_on_start": "a resumed run would do it again; the start is checked in any case",
}
LIBRARY_DEFAULTS = {
    "save_steps": 500,
    "logging_steps": 10,
    "max_length": 1024,
    "gradient_checkpointing": True,
    "max_seq_length": 2048,  # unsloth's; the others are TRL's
}


def find_loading_conflicts(loading: dict[str, Any]) -> Iterator[str]:
    """Every value of `from_pretrained` that no loader takes; their kinds are checked elsewhere."""
    attention, device_map = loading.get("attn_implementation"), loading.get("device_map")
    if isinstance(attention, str) and attention not in ATTENTIONS:
        yield f"from_pretrained.attn_implementation: got {attention!r}; allowed: {', '.join(ATTENTIONS)}, null"
    if not isinstance(device_map, (dict, int, type(None))) and not re.fullmatch(DEVICE_MAP, str(device_map)):
        allowed = "auto, balanced, sequential, cpu, cuda, cuda:0, an object of devices"
        yield f"from_pretrained.device_map: got {device_map!r}; allowed: {allowed}"
    if loading.get("dtype") not in (None, *DTYPES):
        yield f"from_pretrained.dtype: got {loading['dtype']!r}; allowed: {', '.join(DTYPES)}, null"


def find_evaluation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Every conflict in the values of an evaluation's args file; their kinds are checked elsewhere."""
    generation = values["generation"]
    if generation.get("max_new_tokens") is None:
        yield "generation.max_new_tokens: missing; without it a reply would end after 20 tokens, the prompt's included"
    least, most = generation.get("min_new_tokens"), generation.get("max_new_tokens")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"generation.min_new_tokens: got {least}; allowed: up to max_new_tokens ({most})"
    several = values.get("samples_per_prompt", 1)
    if several != 1 and not generation.get("do_sample"):
        yield f"samples_per_prompt: {several} replies to a prompt would be the same one; set generation.do_sample: true"
    scoring = values.get("scoring")
    if isinstance(scoring, dict) and scoring.get("emotion_model") == scoring.get("gibberish_model") is not None:
        yield "scoring.gibberish_model: is the emotion_model; name a classifier that tells clean text from gibberish"
    if values.get("preferences") is not None and values.get("baseline_adapter") is None:
        yield 'preferences: an implicit reward is measured against a baseline; name a baseline_adapter, or "none"'


def find_training_conflicts(values: dict[str, Any]) -> list[str]:
    """Every conflict in the values of a DPO args file; their kinds are checked elsewhere."""
    dpo = values["dpo"]
    found = [f"dpo.{key}: {why}; remove the key" for key, why in REFUSED_KEYS.items() if dpo.get(key)]
    if dpo.get("bf16") and dpo.get("fp16"):
        found.append("dpo.fp16: bf16 is set too; keep one of the two")
    found += find_loss_conflicts(dpo)
    found += find_length_and_order_conflicts(values, dpo)
    found += find_held_out_conflicts(dpo, has_eval_dataset=bool(values.get("eval_dataset")))
    found += find_adapter_conflicts(values)
    return found


def find_loss_conflicts(dpo: dict[str, Any]) -> Iterator[str]:
    named = dpo.get("loss_type", ["sigmoid"])
    named = named if isinstance(named, list) else []
    divergence = dpo.get("f_divergence_type", F_DIVERGENCES[0])
    for name in named:
        if name not in LOSS_TYPES:
            yield f"dpo.loss_type: got {name!r}; allowed: {', '.join(LOSS_TYPES)}"
    named = [name for name in named if name in LOSS_TYPES]  # others, such as lists, go into no set
    if "exo_pair" in named and not dpo.get("label_smoothing"):
        yield "dpo.label_smoothing: the loss exo_pair needs more than 0, for example 0.001"
    if divergence not in F_DIVERGENCES:
        yield f"dpo.f_divergence_type: allowed: {', '.join(F_DIVERGENCES)}"
    elif divergence != "reverse_kl" and not set(named) <= LOSSES_WITH_F_DIVERGENCE:
        yield f"dpo.f_divergence_type: {divergence} goes with {', '.join(sorted(LOSSES_WITH_F_DIVERGENCE))} alone"
    if dpo.get("use_weighting") and {"aot", "aot_unpaired"} & set(named):
        yield "dpo.use_weighting: does not go with the losses aot and aot_unpaired, which sort the pairs"


def find_length_and_order_conflicts(values: dict[str, Any], dpo: dict[str, Any]) -> Iterator[str]:
    if dpo.get("truncation_mode", "keep_start") != "keep_start":
        yield 'dpo.truncation_mode: allowed: "keep_start"; TRL gives up the other one'
    if dpo.get("train_sampling_strategy", "random") not in SAMPLING_STRATEGIES:
        allowed = ", ".join(SAMPLING_STRATEGIES)
        yield f"dpo.train_sampling_strategy: got {dpo['train_sampling_strategy']!r}; allowed: {allowed}"
    loading = values.get("from_pretrained")
    if values.get("backend") == "unsloth" and isinstance(loading, dict):
        loaded = loading.get("max_seq_length", LIBRARY_DEFAULTS["max_seq_length"])
        wanted = dpo.get("max_length", LIBRARY_DEFAULTS["max_length"])
        if isinstance(wanted, int) and isinstance(loaded, int) and wanted > loaded:
            yield f"dpo.max_length: {wanted} is more than from_pretrained.max_seq_length ({loaded}); raise that too"


def find_held_out_conflicts(dpo: dict[str, Any], has_eval_dataset: bool) -> Iterator[str]:
    """A checkpoint must stand wherever an evaluation chooses, and after all that belongs to an epoch's end."""
    evaluated, saved = dpo.get("eval_strategy", "no"), dpo.get("save_strategy", "steps")
    logged = dpo.get("logging_strategy", "steps")
    metric = dpo.get("metric_for_best_model")
    if evaluated != "no" and not has_eval_dataset:
        yield "dpo.eval_strategy: needs held-out pairs; name an eval_dataset"
    if metric is not None and str(metric).removeprefix("eval_") not in HELD_OUT_METRICS:
        yield f"dpo.metric_for_best_model: got {metric!r}; allowed: {', '.join(HELD_OUT_METRICS)}"
    if saved == "best":
        yield 'dpo.save_strategy: "best" leaves nothing to resume from between; use dpo.load_best_model_at_end'
    if "epoch" in (evaluated, logged) and saved == "steps":
        yield 'dpo.save_strategy: must be "epoch" where eval_strategy or logging_strategy is: a resumed run misses them'
    if dpo.get("early_stopping_patience") is not None and not dpo.get("load_best_model_at_end"):
        yield "dpo.early_stopping_patience: needs dpo.load_best_model_at_end: true"
    if not dpo.get("load_best_model_at_end"):
        return
    eval_steps = dpo.get("eval_steps") or dpo.get("logging_steps", LIBRARY_DEFAULTS["logging_steps"])
    save_steps = dpo.get("save_steps", LIBRARY_DEFAULTS["save_steps"])
    if evaluated == "no":
        yield 'dpo.load_best_model_at_end: needs dpo.eval_strategy, for example "steps"'
    elif saved != evaluated:
        yield f"dpo.load_best_model_at_end: needs the same eval_strategy ({evaluated}) and save_strategy ({saved})"
    elif evaluated == "steps" and save_steps != eval_steps:
        yield (
            f"dpo.load_best_model_at_end: needs the same eval_steps ({eval_steps}) and save_steps ({save_steps}), or "
            f"the best adapter is not on disk"
        )


def find_adapter_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Training starts from an adapter, or from a new LoRA that changes nothing yet: never from both, or neither."""
    lora = values.get("lora")
    if "adapter" in values and values["adapter"] is None and lora is None:
        yield 'adapter: null needs the section lora, for example {"r": 16, "lora_alpha": 16}'
    if values.get("adapter") is not None and lora is not None:
        yield "lora: only for a new adapter (adapter: null); this one brings its own settings; remove one of the two"
    if not isinstance(lora, dict):
        return
    targets = lora.get("target_modules")
    if lora.get("bias", "none") != "none":
        yield 'lora.bias: allowed: "none"; other biases are outside the adapter, and the reference is not'
    if lora.get("init_lora_weights", True) not in (True, "gaussian"):
        yield 'lora.init_lora_weights: allowed: true, "gaussian"; with others the reference is not the bare base'
    if lora.get("trainable_token_indices") or (
        isinstance(targets, list) and ("lm_head" in targets or "embed_tokens" in targets)
    ):
        yield "lora: no adapter on lm_head or embed_tokens: TRL reads lm_head's own weight, and would not train it"
