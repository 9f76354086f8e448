"""Values of an args file of DPO or SFT that contradict each other or are not supported. The libraries would report them
late or not at all."""

from collections.abc import Iterator
from typing import Any

from response_generator.config.library_keywords import AUTO, SHARED_PREFIX, read_default

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
SFT_LOSS_TYPES = ("nll", "dft")
SFT_HELD_OUT_METRICS = ("loss", "mean_token_accuracy", "entropy")
SAMPLING_STRATEGIES = ("random", "group_by_length", "sequential")
REFUSED_KEYS = {
    "save_only_model": "training cannot be resumed from such a checkpoint",
    "ignore_data_skip": "a resumed run would train on other pairs than an uninterrupted one",
    "auto_find_batch_size": "it would change the batch size, and so the results, during the run",
    "remove_unused_columns": "training needs all columns (token ids and lengths)",
    "enable_jit_checkpoint": "SIGTERM saves a checkpoint without it",
    "eval_on_start": "a resumed run would evaluate again; the start is always checked, without this key",
}
REFUSED_KEYS_OF_SECTION = {
    "dpo": {
        "sync_ref_model": "TRL does not support it with an adapter",
        "padding_free": "TRL 1.15 has disabled it",
    },
    "sft": {
        "packing": "each dialogue is a row of its own",
        "padding_free": "each dialogue is a row of its own",
    },
}


def find_dpo_conflicts(values: dict[str, Any]) -> list[str]:
    """Finds conflicts between the values of a fine_tune_dpo.py args file. JSON types are checked in `validation`."""
    return find_training_conflicts("dpo", values) + [
        *find_loss_conflicts(values["dpo"]),
        *find_layout_errors(values["dpo"].get(SHARED_PREFIX)),
    ]


def find_layout_errors(asked: bool | str | None) -> Iterator[str]:
    if isinstance(asked, str) and asked != AUTO:
        yield f'dpo.{SHARED_PREFIX}: got {asked!r}; allowed: true, false, "{AUTO}"'


def find_sft_conflicts(values: dict[str, Any]) -> list[str]:
    """Finds conflicts between the values of an args file of SFT. JSON types are checked in `validation`."""
    errors = find_training_conflicts("sft", values)
    loss = values["sft"].get("loss_type", SFT_LOSS_TYPES[0])
    if loss not in SFT_LOSS_TYPES:
        errors.append(f"sft.loss_type: got {loss!r}; allowed: {', '.join(SFT_LOSS_TYPES)}")
    return errors


def find_training_conflicts(section: str, values: dict[str, Any]) -> list[str]:
    """Finds the conflicts that both kinds of training can have.

    Args:
        section: "dpo" or "sft", which holds the fields of TRL's configuration.
    """
    training = values[section]
    refused = find_refused_keys(section)
    errors = [f"{section}.{key}: {reason}; remove the key" for key, reason in refused.items() if training.get(key)]
    if training.get("bf16") and training.get("fp16"):
        errors.append(f"{section}.fp16: bf16 is set too; keep one of the two")
    errors += find_length_and_order_conflicts(section, values)
    errors += find_held_out_conflicts(section, training, has_eval_dataset=bool(values.get("eval_dataset")))
    errors += find_adapter_conflicts(values)
    return errors


def find_refused_keys(section: str) -> dict[str, str]:
    """The keys of a section that may not be true, and why."""
    if section not in REFUSED_KEYS_OF_SECTION:
        return {}
    return REFUSED_KEYS | REFUSED_KEYS_OF_SECTION[section]


def find_loss_conflicts(dpo: dict[str, Any]) -> Iterator[str]:
    losses = dpo.get("loss_type", ["sigmoid"])
    if losses == []:
        yield f"dpo.loss_type: got []; needed: at least one of {', '.join(LOSS_TYPES)}"
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


def find_length_and_order_conflicts(section: str, values: dict[str, Any]) -> Iterator[str]:
    training = values[section]
    truncation = training.get("truncation_mode", "keep_start")
    if truncation != "keep_start":
        yield f'{section}.truncation_mode: got {truncation!r}; allowed: "keep_start" (TRL deprecates "keep_end")'
    strategy = training.get("train_sampling_strategy", "random")
    if strategy not in SAMPLING_STRATEGIES:
        yield f"{section}.train_sampling_strategy: got {strategy!r}; allowed: {', '.join(SAMPLING_STRATEGIES)}"
    loading = values.get("from_pretrained")
    if values.get("backend") == "unsloth" and isinstance(loading, dict):
        model_length = loading.get("max_seq_length", read_default("from_pretrained", "max_seq_length"))
        row_length = training.get("max_length", read_default(section, "max_length"))
        if isinstance(row_length, int) and isinstance(model_length, int) and row_length > model_length:
            yield (
                f"{section}.max_length: {row_length} is more than from_pretrained.max_seq_length ({model_length}); "
                f"raise max_seq_length too"
            )


def find_held_out_conflicts(section: str, training: dict[str, Any], has_eval_dataset: bool) -> Iterator[str]:
    """Finds conflicts between evaluating, logging and saving checkpoints during training.

    A checkpoint is needed at every evaluation that may select the best adapter. When evaluation or logging happens at
    the end of an epoch, checkpoints must be saved there too: a run resumed from a checkpoint of the last step would
    skip them.
    """
    eval_strategy, save_strategy = training.get("eval_strategy", "no"), training.get("save_strategy", "steps")
    logging_strategy = training.get("logging_strategy", "steps")
    metric = training.get("metric_for_best_model")
    metrics = HELD_OUT_METRICS if section == "dpo" else SFT_HELD_OUT_METRICS
    if eval_strategy != "no" and not has_eval_dataset:
        yield f'{section}.eval_strategy: needs held-out rows; name an eval_dataset, or set it to "no"'
    if metric is not None and str(metric).removeprefix("eval_") not in metrics:
        yield f"{section}.metric_for_best_model: got {metric!r}; allowed: {', '.join(metrics)}"
    if save_strategy == "best":
        yield (
            f'{section}.save_strategy: "best" saves no checkpoint to resume from while the metric does not improve; '
            f"use {section}.load_best_model_at_end"
        )
    if "epoch" in (eval_strategy, logging_strategy) and save_strategy == "steps":
        yield (
            f'{section}.save_strategy: must be "epoch" when eval_strategy or logging_strategy is "epoch", or a resumed '
            "run may skip an evaluation or log entry"
        )
    if training.get("early_stopping_patience") is not None and not training.get("load_best_model_at_end"):
        yield f"{section}.early_stopping_patience: needs {section}.load_best_model_at_end: true"
    if not training.get("load_best_model_at_end"):
        return
    eval_steps = training.get("eval_steps") or training.get("logging_steps", read_default(section, "logging_steps"))
    save_steps = training.get("save_steps", read_default(section, "save_steps"))
    if eval_strategy == "no":
        yield f'{section}.load_best_model_at_end: needs {section}.eval_strategy, for example "steps"'
    elif save_strategy != eval_strategy:
        yield (
            f"{section}.load_best_model_at_end: needs the same eval_strategy ({eval_strategy}) and save_strategy "
            f"({save_strategy})"
        )
    elif eval_strategy == "steps" and save_steps != eval_steps:
        yield (
            f"{section}.load_best_model_at_end: needs the same eval_steps ({eval_steps}) and save_steps "
            f"({save_steps}), "
            f"or the best adapter may not have been saved"
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
    targets = lora.get("target_modules")
    if lora.get("trainable_token_indices") or (
        isinstance(targets, list) and ("lm_head" in targets or "embed_tokens" in targets)
    ):
        yield (
            "lora: target_modules and trainable_token_indices may not adapt lm_head or embed_tokens: the loss of TRL "
            "reads the weight of lm_head directly and would not train its adapter"
        )
