"""What this program adds to the keys of TRL's DPOConfig and SFTConfig and of transformers' TrainingArguments."""

from response_generator.config.library.key_rule import (
    BELOW_ONE,
    COUNT,
    COUNT_OR_ZERO,
    EXCLUDED,
    MAX_COUNT,
    MAX_WORKERS,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    STEPS,
    KeyRule,
    in_range,
    set_elsewhere,
)

LOSS_TYPES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
).split()
F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
HELD_OUT_METRICS = (
    "loss rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/chosen logps/rejected "
    "logits/chosen logits/rejected mean_token_accuracy entropy"
).split()
SFT_HELD_OUT_METRICS = ("loss", "mean_token_accuracy", "entropy")
SHARED_PREFIX = "shared_prefix"  # a key of this program: both replies of a pair share their prompt
AUTO = "auto"  # its default: the faster layout


def one_of_metrics(*names: str) -> KeyRule:
    return KeyRule(values=(*names, *(f"eval_{name}" for name in names)), allowed=", ".join(names))


TRAINING_EXCLUDED = (
    "disable_tqdm hub_always_push hub_private_repo hub_revision hub_strategy hub_token project "
    "restore_callback_states_from_checkpoint run_name"
).split()
TRAINING_KEYS = dict.fromkeys(TRAINING_EXCLUDED, EXCLUDED) | {  # of the sections dpo, sft and trainer
    "output_dir": set_elsewhere("write it at the top level"),
    "seed": set_elsewhere("write it at the top level"),
    "report_to": set_elsewhere("use the section wandb"),
    "push_to_hub": set_elsewhere("write the section push_to_hub at the top level"),
    "hub_model_id": set_elsewhere("write push_to_hub.repo_id at the top level"),
    "resume_from_checkpoint": set_elsewhere("to resume, run the same command again"),
    "local_rank": set_elsewhere("torchrun and accelerate tell each process its rank"),
    "adam_beta1": BELOW_ONE,
    "adam_beta2": BELOW_ONE,
    "adam_epsilon": SHARE,
    "data_seed": SEED,
    "dataloader_num_workers": in_range(0, MAX_WORKERS),
    "dataloader_prefetch_factor": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
    "eval_accumulation_steps": COUNT,
    "eval_delay": COUNT_OR_ZERO,
    "eval_steps": STEPS,
    "gradient_accumulation_steps": COUNT,
    "label_smoothing_factor": BELOW_ONE,
    "learning_rate": in_range(0, 10, open_low=True),
    "max_grad_norm": NOT_NEGATIVE,
    "max_steps": in_range(-1, MAX_COUNT),
    "neftune_noise_alpha": NOT_NEGATIVE,
    "num_train_epochs": POSITIVE,
    "per_device_eval_batch_size": COUNT,
    "per_device_train_batch_size": COUNT,
    "torch_empty_cache_steps": COUNT,
    "warmup_steps": COUNT_OR_ZERO,  # a value below 1 is a fraction of all steps
    "warmup_ratio": KeyRule(refusal="transformers no longer has it; write the share of all steps as warmup_steps"),
    "weight_decay": NOT_NEGATIVE,
    "save_steps": STEPS,
    "save_total_limit": COUNT,
    "train_sampling_strategy": KeyRule(values=("random", "group_by_length", "sequential")),
    "save_only_model": KeyRule(only_false="training cannot be resumed from such a checkpoint"),
    "ignore_data_skip": KeyRule(only_false="a resumed run would train on other rows than an uninterrupted one"),
    "auto_find_batch_size": KeyRule(only_false="it would change the batch size, and so the results, during the run"),
    "enable_jit_checkpoint": KeyRule(only_false="SIGTERM saves a checkpoint without it"),
}
# Arguments of transformers' EarlyStoppingCallback, not fields of TRL's configurations; dpo and sft accept them too.
EARLY_STOPPING = {
    "early_stopping_patience": KeyRule(
        types="integer null",
        range=COUNT.range,
        meaning="Use with `metric_for_best_model` to stop training when the specified metric worsens for "
        "`early_stopping_patience` evaluation calls.",
        default=None,
    ),
    "early_stopping_threshold": KeyRule(
        types="number",
        range=NOT_NEGATIVE.range,
        meaning="Use with TrainingArguments `metric_for_best_model` and `early_stopping_patience` to denote how much "
        "the specified metric must improve to satisfy early stopping conditions.",
        default=0.0,
    ),
}
TRL_KEYS = EARLY_STOPPING | {  # of the sections dpo and sft
    "pad_token": set_elsewhere("write chat_template.special_tokens.pad_token"),
    "model_init_kwargs": EXCLUDED,
    "dataset_num_proc": EXCLUDED,
    "logging_steps": STEPS,
    "max_length": in_range(2, MAX_COUNT),  # at least one token of the prompt and one of the reply
    "pad_to_multiple_of": COUNT,
    "router_aux_loss_coef": NOT_NEGATIVE,
    "truncation_mode": KeyRule(values=("keep_start",), allowed='"keep_start" (TRL deprecates "keep_end")'),
    "ddp_find_unused_parameters": KeyRule(default=False),  # every adapter parameter is used in each step
    "remove_unused_columns": KeyRule(default=False, only_false="training needs all columns (token ids and lengths)"),
    "eval_on_start": KeyRule(
        only_false="a resumed run would evaluate again; the start is always checked, without this key"
    ),
}
DPO_KEYS = {
    "beta": POSITIVE,
    "discopop_tau": POSITIVE,
    "f_alpha_divergence_coef": POSITIVE,  # the divergence divides by it
    "f_divergence_type": KeyRule(values=F_DIVERGENCES),
    "label_smoothing": in_range(0, 0.5, open_high=True),  # 0.5 would prefer both replies equally
    "ld_alpha": SHARE,
    "loss_type": KeyRule(values=tuple(LOSS_TYPES)),
    "metric_for_best_model": one_of_metrics(*HELD_OUT_METRICS),
    "padding_free": KeyRule(only_false="TRL 1.15 has disabled it"),
    "precompute_ref_batch_size": COUNT,
    "ref_model_mixup_alpha": SHARE,
    "ref_model_sync_steps": COUNT,
    "sync_ref_model": KeyRule(only_false="TRL does not support it with an adapter"),
    SHARED_PREFIX: KeyRule(
        types="boolean string",
        values=(True, False, AUTO),
        allowed=f'true, false, "{AUTO}"',
        meaning="Compute the prompt of a pair once for both replies, in one row. With 'auto' a few batches are timed "
        "before the first step, and the faster layout is taken. Of this program, not of TRL; the loss is the same.",
        default=AUTO,
    ),
    "rpo_alpha": KeyRule(
        refusal='TRL no longer has it; write loss_type: ["sigmoid", "sft"] and loss_weights: [1.0, its value]'
    ),
    "model_adapter_name": KeyRule(
        refusal="TRL no longer has this field: the trained adapter is always called 'default'; remove the key"
    ),
    "ref_adapter_name": KeyRule(
        refusal="TRL no longer has this field: the frozen adapter is always called 'ref'; remove the key"
    ),
}
SFT_EXCLUDED = (
    "assistant_only_loss chat_template_path completion_only_loss dataset_kwargs dataset_text_field eos_token "
    "eval_packing packing_strategy shuffle_dataset"
).split()
SFT_KEYS = dict.fromkeys(SFT_EXCLUDED, EXCLUDED) | {
    "loss_type": KeyRule(values=("nll", "dft")),
    "metric_for_best_model": one_of_metrics(*SFT_HELD_OUT_METRICS),
    "packing": KeyRule(only_false="each dialogue is a row of its own"),
    "padding_free": KeyRule(only_false="each dialogue is a row of its own"),
}
CLASSIFIER_EXCLUDED = (
    "batch_eval_metrics eval_do_concat_batches eval_on_start eval_strategy label_names load_best_model_at_end "
    "logging_steps logging_strategy prediction_loss_only remove_unused_columns use_cpu"
).split()
CLASSIFIER_KEYS = dict.fromkeys(CLASSIFIER_EXCLUDED, EXCLUDED) | {  # of the section trainer
    "save_strategy": KeyRule(values=("epoch", "steps", "no"), default="epoch"),
    "save_total_limit": KeyRule(range=COUNT.range, default=1),
}
TRAINING_RULES = {
    "dpo": TRAINING_KEYS | TRL_KEYS | DPO_KEYS,
    "sft": TRAINING_KEYS | TRL_KEYS | SFT_KEYS,
    "trainer": TRAINING_KEYS | CLASSIFIER_KEYS,
}
# Where this program's defaults for fields of TRL differ from TRL's.
TRAINING_DEFAULTS = {
    key: rule.default for key, rule in TRL_KEYS.items() if rule.default is not ... and key not in EARLY_STOPPING
}
