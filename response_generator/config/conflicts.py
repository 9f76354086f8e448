"""Args values that contradict each other or are not supported. The libraries would report them late or not at all."""

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
ATTENTION_IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
DEVICE_MAP_PATTERN = r"auto|balanced|balanced_low_0|sequential|cpu|(cuda|xpu)(:\d+)?"
DTYPES = ("bfloat16", "float16", "float32")
SAMPLING_STRATEGIES = ("random", "group_by_length", "sequential")
REFUSED_KEYS = {
    "sync_ref_model": "TRL does not support it with an adapter",
    "save_only_model": "training cannot be resumed from such a checkpoint",
    "ignore_data_skip": "a resumed run would train on other pairs than an uninterrupted one",
    "auto_find_batch_size": "it would change the batch size, and so the results, during the run",
    "remove_unused_columns": "training needs all columns (token ids and lengths)",
    "enable_jit_checkpoint": "SIGTERM saves a checkpoint without it",
    "padding_free": "TRL 1.15 has disabled it",
    "eval_on_start": "a resumed run would evaluate again; the start is always checked, without this key",
}
LIBRARY_DEFAULTS = {
    "save_steps": 500,
    "logging_steps": 10,
    "max_length": 1024,
    "gradient_checkpointing": True,
    "max_seq_length": 2048,  # of unsloth; the others are of TRL
}


def find_loading_conflicts(loading: dict[str, Any]) -> Iterator[str]:
    """Finds values of `from_pretrained` that no loader accepts. JSON types are checked in `validation`."""
    attention, device_map = loading.get("attn_implementation"), loading.get("device_map")
    if isinstance(attention, str) and attention not in ATTENTION_IMPLEMENTATIONS:
        allowed = ", ".join(ATTENTION_IMPLEMENTATIONS)
        yield f"from_pretrained.attn_implementation: got {attention!r}; allowed: {allowed}, null"
    if not isinstance(device_map, (dict, int, type(None))) and not re.fullmatch(DEVICE_MAP_PATTERN, str(device_map)):
        allowed = "auto, balanced, sequential, cpu, cuda, cuda:0, an object that maps modules to devices"
        yield f"from_pretrained.device_map: got {device_map!r}; allowed: {allowed}"
    if loading.get("dtype") not in (None, *DTYPES):
        yield f"from_pretrained.dtype: got {loading['dtype']!r}; allowed: {', '.join(DTYPES)}, null"


def find_generation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an args file that generates replies. JSON types are checked in
    `validation`."""
    generation = values["generation"]
    if generation.get("max_new_tokens") is None:
        yield "generation.max_new_tokens: missing; without it, prompt and reply together would be limited to 20 tokens"
    min_tokens, max_tokens = generation.get("min_new_tokens"), generation.get("max_new_tokens")
    if isinstance(min_tokens, int) and isinstance(max_tokens, int) and min_tokens > max_tokens:
        yield f"generation.min_new_tokens: got {min_tokens}; allowed: up to max_new_tokens ({max_tokens})"
    scoring = values.get("scoring")
    if isinstance(scoring, dict) and scoring.get("emotion_model") == scoring.get("gibberish_model") is not None:
        yield (
            f"scoring.gibberish_model: got {scoring['gibberish_model']!r}, which is also the emotion_model; name a "
            f"classifier that tells clean text from gibberish"
        )


def find_evaluation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an evaluate.py args file."""
    generation = values["generation"]
    samples = values.get("samples_per_prompt", 1)
    if samples != 1 and not generation.get("do_sample"):
        yield (
            f"samples_per_prompt: got {samples}; without sampling all replies to a prompt are the same; set "
            f"generation.do_sample: true"
        )
    if values.get("preferences") is not None and values.get("baseline_adapter") is None:
        yield 'preferences: the implicit reward needs a baseline; set baseline_adapter to an adapter, or to "none"'


def find_preference_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an args file that builds preference data."""
    if values.get("target_emotions") == "balanced" and values.get("gold_as_chosen"):
        yield (
            'target_emotions: "balanced" gives most prompts another target than their gold reply has, so '
            "gold_as_chosen must be false"
        )
    if not values["generation"].get("do_sample"):
        yield "generation.do_sample: must be true; without sampling all candidates of a prompt are the same"
    turns = values.get("history_turns")
    if isinstance(turns, int) and turns % 2 == 0:
        yield f"history_turns: got {turns}; allowed: an odd number, because the last turn of a prompt is the user's"
    reward = values.get("reward")
    if isinstance(reward, dict):
        yield from find_range_conflicts("reward", reward)


def find_filter_conflicts(section: str, filters: dict[str, Any]) -> Iterator[str]:
    yield from find_range_conflicts(section, filters)
    if filters.get("min_chosen_gibberish_score") is not None and filters.get("chosen_gibberish_labels") is None:
        yield f'{section}.min_chosen_gibberish_score: needs {section}.chosen_gibberish_labels, for example ["clean"]'


def find_range_conflicts(section: str, values: dict[str, Any]) -> Iterator[str]:
    least, most = values.get("min_characters"), values.get("max_characters")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{section}.min_characters: got {least}; allowed: up to max_characters ({most})"


def find_training_conflicts(values: dict[str, Any]) -> list[str]:
    """Finds conflicts between the values of a fine_tune_dpo.py args file. JSON types are checked in `validation`."""
    dpo = values["dpo"]
    errors = [f"dpo.{key}: {reason}; remove the key" for key, reason in REFUSED_KEYS.items() if dpo.get(key)]
    if dpo.get("bf16") and dpo.get("fp16"):
        errors.append("dpo.fp16: bf16 is set too; keep one of the two")
    errors += find_loss_conflicts(dpo)
    errors += find_length_and_order_conflicts(values, dpo)
    errors += find_held_out_conflicts(dpo, has_eval_dataset=bool(values.get("eval_dataset")))
    errors += find_adapter_conflicts(values)
    return errors


def find_loss_conflicts(dpo: dict[str, Any]) -> Iterator[str]:
    losses = dpo.get("loss_type", ["sigmoid"])
    losses = losses if isinstance(losses, list) else []
    divergence = dpo.get("f_divergence_type", F_DIVERGENCES[0])
    for loss in losses:
        if loss not in LOSS_TYPES:
            yield f"dpo.loss_type: got {loss!r}; allowed: {', '.join(LOSS_TYPES)}"
    losses = [loss for loss in losses if loss in LOSS_TYPES]  # also removes unhashable values, such as lists
    if "exo_pair" in losses and not dpo.get("label_smoothing"):
        yield "dpo.label_smoothing: the loss exo_pair needs more than 0, for example 0.001"
    if divergence not in F_DIVERGENCES:
        yield f"dpo.f_divergence_type: got {divergence!r}; allowed: {', '.join(F_DIVERGENCES)}"
    elif divergence != "reverse_kl" and not set(losses) <= LOSSES_WITH_F_DIVERGENCE:
        supported = ", ".join(sorted(LOSSES_WITH_F_DIVERGENCE))
        yield f"dpo.f_divergence_type: got {divergence!r}; it can be used only with the losses {supported}"
    if dpo.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        yield "dpo.use_weighting: cannot be used with the losses aot and aot_unpaired, which sort the pairs; remove it"


def find_length_and_order_conflicts(values: dict[str, Any], dpo: dict[str, Any]) -> Iterator[str]:
    if dpo.get("truncation_mode", "keep_start") != "keep_start":
        yield f'dpo.truncation_mode: got {dpo["truncation_mode"]!r}; allowed: "keep_start" (TRL deprecates "keep_end")'
    if dpo.get("train_sampling_strategy", "random") not in SAMPLING_STRATEGIES:
        allowed = ", ".join(SAMPLING_STRATEGIES)
        yield f"dpo.train_sampling_strategy: got {dpo['train_sampling_strategy']!r}; allowed: {allowed}"
    loading = values.get("from_pretrained")
    if values.get("backend") == "unsloth" and isinstance(loading, dict):
        model_length = loading.get("max_seq_length", LIBRARY_DEFAULTS["max_seq_length"])
        pair_length = dpo.get("max_length", LIBRARY_DEFAULTS["max_length"])
        if isinstance(pair_length, int) and isinstance(model_length, int) and pair_length > model_length:
            yield (
                f"dpo.max_length: {pair_length} is more than from_pretrained.max_seq_length ({model_length}); raise "
                f"max_seq_length too"
            )


def find_held_out_conflicts(dpo: dict[str, Any], has_eval_dataset: bool) -> Iterator[str]:
    """Finds conflicts between evaluating, logging and saving checkpoints during training.

    A checkpoint is needed at every evaluation that may select the best adapter. When evaluation or logging happens at
    the end of an epoch, checkpoints must be saved there too: a run resumed from a checkpoint of the last step would
    skip them.
    """
    eval_strategy, save_strategy = dpo.get("eval_strategy", "no"), dpo.get("save_strategy", "steps")
    logging_strategy = dpo.get("logging_strategy", "steps")
    metric = dpo.get("metric_for_best_model")
    if eval_strategy != "no" and not has_eval_dataset:
        yield "dpo.eval_strategy: needs held-out pairs; name an eval_dataset"
    if metric is not None and str(metric).removeprefix("eval_") not in HELD_OUT_METRICS:
        yield f"dpo.metric_for_best_model: got {metric!r}; allowed: {', '.join(HELD_OUT_METRICS)}"
    if save_strategy == "best":
        yield (
            'dpo.save_strategy: "best" saves no checkpoint to resume from while the metric does not improve; use '
            "dpo.load_best_model_at_end"
        )
    if "epoch" in (eval_strategy, logging_strategy) and save_strategy == "steps":
        yield (
            'dpo.save_strategy: must be "epoch" when eval_strategy or logging_strategy is "epoch", or a resumed run '
            "may skip an evaluation or log entry"
        )
    if dpo.get("early_stopping_patience") is not None and not dpo.get("load_best_model_at_end"):
        yield "dpo.early_stopping_patience: needs dpo.load_best_model_at_end: true"
    if not dpo.get("load_best_model_at_end"):
        return
    eval_steps = dpo.get("eval_steps") or dpo.get("logging_steps", LIBRARY_DEFAULTS["logging_steps"])
    save_steps = dpo.get("save_steps", LIBRARY_DEFAULTS["save_steps"])
    if eval_strategy == "no":
        yield 'dpo.load_best_model_at_end: needs dpo.eval_strategy, for example "steps"'
    elif save_strategy != eval_strategy:
        yield (
            f"dpo.load_best_model_at_end: needs the same eval_strategy ({eval_strategy}) and save_strategy "
            f"({save_strategy})"
        )
    elif eval_strategy == "steps" and save_steps != eval_steps:
        yield (
            f"dpo.load_best_model_at_end: needs the same eval_steps ({eval_steps}) and save_steps ({save_steps}), or "
            f"the best adapter may not have been saved"
        )


def find_adapter_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Training starts either from an adapter or from a new LoRA adapter that does not change the base model yet."""
    lora = values.get("lora")
    if "adapter" in values and values["adapter"] is None and lora is None:
        yield 'adapter: null needs the section lora, for example {"r": 16, "lora_alpha": 16}'
    if values.get("adapter") is not None and lora is not None:
        yield "lora: only for a new adapter (adapter: null); an existing adapter has its own settings; remove one"
    if not isinstance(lora, dict):
        return
    targets = lora.get("target_modules")
    if lora.get("bias", "none") != "none":
        yield (
            f'lora.bias: got {lora["bias"]!r}; allowed: "none"; other values train biases of the base model, and the '
            f"reference uses them too"
        )
    if lora.get("init_lora_weights", True) not in (True, "gaussian"):
        yield (
            f'lora.init_lora_weights: got {lora["init_lora_weights"]!r}; allowed: true, "gaussian"; with other values '
            f"the reference is not the bare base model"
        )
    if lora.get("trainable_token_indices") or (
        isinstance(targets, list) and ("lm_head" in targets or "embed_tokens" in targets)
    ):
        yield (
            "lora: target_modules and trainable_token_indices may not adapt lm_head or embed_tokens: the loss of TRL "
            "reads the weight of lm_head directly and would not train its adapter"
        )
