"""The allowed range of every number in the sections whose keys are keywords of a library."""

from dataclasses import dataclass

MAX_COUNT = 2**31 - 1  # torch and its C libraries store many counts in 32 bits
MAX_SEED = 2**32 - 1  # limit of numpy, which set_seed of transformers seeds too
MAX_WORKERS = 256
MAX_BEAMS = 100
MAX_NUMBER = 1e6


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; with `open_low` or `open_high` that bound itself is not allowed."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        above = number > self.low if self.open_low else number >= self.low
        return above and (number < self.high if self.open_high else number <= self.high)

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.open_low else f"from {self.low:g}"
        return f"{low} {'to less than' if self.open_high else 'to'} {self.high:g}"


def closed_range(low: float, high: float) -> Range:
    return Range(low, high)


def left_open_range(low: float, high: float) -> Range:
    return Range(low, high, open_low=True)


def right_open_range(low: float, high: float) -> Range:
    return Range(low, high, open_high=True)


COUNT, COUNT_OR_ZERO = closed_range(1, MAX_COUNT), closed_range(0, MAX_COUNT)
STEPS = left_open_range(0, MAX_COUNT)  # a value below 1 is a fraction of all steps
SEED = closed_range(0, MAX_SEED)
SHARE = closed_range(0, 1)
TOKEN_ID = COUNT_OR_ZERO
POSITIVE, NOT_NEGATIVE = left_open_range(0, MAX_NUMBER), closed_range(0, MAX_NUMBER)
ANY_NUMBER = closed_range(-MAX_NUMBER, MAX_NUMBER)

TRAINING_RANGES: dict[str, Range] = {  # of the fields that DPO and SFT share
    "adam_beta1": right_open_range(0, 1),
    "adam_beta2": right_open_range(0, 1),
    "adam_epsilon": SHARE,
    "data_seed": SEED,
    "dataloader_num_workers": closed_range(0, MAX_WORKERS),
    "dataloader_prefetch_factor": COUNT,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_timeout": COUNT,
    "early_stopping_patience": COUNT,
    "early_stopping_threshold": NOT_NEGATIVE,
    "eval_accumulation_steps": COUNT,
    "eval_delay": COUNT_OR_ZERO,
    "eval_steps": STEPS,
    "gradient_accumulation_steps": COUNT,
    "label_smoothing_factor": right_open_range(0, 1),
    "learning_rate": left_open_range(0, 10),
    "logging_steps": STEPS,
    "max_grad_norm": NOT_NEGATIVE,
    "max_length": closed_range(2, MAX_COUNT),  # at least one token of the prompt and one of the reply
    "max_steps": closed_range(-1, MAX_COUNT),
    "neftune_noise_alpha": NOT_NEGATIVE,
    "num_train_epochs": left_open_range(0, MAX_NUMBER),
    "pad_to_multiple_of": COUNT,
    "per_device_eval_batch_size": COUNT,
    "per_device_train_batch_size": COUNT,
    "router_aux_loss_coef": NOT_NEGATIVE,
    "save_steps": STEPS,
    "save_total_limit": COUNT,
    "torch_empty_cache_steps": COUNT,
    "warmup_steps": COUNT_OR_ZERO,  # a value below 1 is a fraction of all steps
    "weight_decay": NOT_NEGATIVE,
}
RANGES: dict[str, dict[str, Range]] = {
    "dpo": TRAINING_RANGES
    | {
        "beta": POSITIVE,
        "discopop_tau": POSITIVE,
        "f_alpha_divergence_coef": POSITIVE,  # the divergence divides by it
        "label_smoothing": right_open_range(0, 0.5),  # 0.5 would prefer both replies equally
        "ld_alpha": SHARE,
        "precompute_ref_batch_size": COUNT,
        "ref_model_mixup_alpha": SHARE,
        "ref_model_sync_steps": COUNT,
    },
    "sft": TRAINING_RANGES,
    "trainer": TRAINING_RANGES,
    "lora": {
        "layers_to_transform": COUNT_OR_ZERO,
        "lora_alpha": COUNT,
        "lora_dropout": right_open_range(0, 1),
        "qalora_group_size": COUNT,
        "r": COUNT,
    },
    "generation": {
        "assistant_confidence_threshold": SHARE,
        "assistant_early_exit": COUNT,
        "assistant_ensemble_weight": SHARE,
        "assistant_lookbehind": COUNT,
        "decoder_start_token_id": TOKEN_ID,
        "encoder_no_repeat_ngram_size": COUNT_OR_ZERO,
        "encoder_repetition_penalty": POSITIVE,
        "epsilon_cutoff": right_open_range(0, 1),
        "eta_cutoff": right_open_range(0, 1),
        "exponential_decay_length_penalty": NOT_NEGATIVE,
        "forced_bos_token_id": TOKEN_ID,
        "forced_eos_token_id": TOKEN_ID,
        "guidance_scale": POSITIVE,
        "length_penalty": ANY_NUMBER,
        "max_cache_len": COUNT,
        "max_length": COUNT,
        "max_matching_ngram_size": COUNT,
        "max_new_tokens": COUNT,
        "min_length": COUNT_OR_ZERO,
        "min_new_tokens": COUNT_OR_ZERO,
        "min_p": SHARE,
        "no_repeat_ngram_size": COUNT_OR_ZERO,
        "num_assistant_tokens": COUNT,
        "num_beams": closed_range(1, MAX_BEAMS),
        "prompt_lookup_num_tokens": COUNT,
        "repetition_penalty": POSITIVE,
        "target_lookbehind": COUNT,
        "temperature": POSITIVE,  # greedy decoding is do_sample: false
        "top_h": left_open_range(0, 1),
        "top_k": COUNT_OR_ZERO,
        "top_p": SHARE,
        "typical_p": left_open_range(0, 1),
    },
    "from_pretrained": {
        "attention_dropout": right_open_range(0, 1),
        "bos_token_id": TOKEN_ID,
        "eos_token_id": TOKEN_ID,
        "gpu_memory_utilization": left_open_range(0, 1),
        "head_dim": COUNT,
        "hidden_size": COUNT,
        "initializer_range": NOT_NEGATIVE,
        "intermediate_size": COUNT,
        "max_lora_rank": COUNT,
        "max_position_embeddings": COUNT,
        "max_seq_length": COUNT,
        "num_attention_heads": COUNT,
        "num_hidden_layers": COUNT,
        "num_key_value_heads": COUNT,
        "pad_token_id": TOKEN_ID,
        "pretraining_tp": COUNT,
        "random_state": SEED,
        "rms_norm_eps": left_open_range(0, 1),
        "vocab_size": COUNT,
    },
}


def find_out_of_range(section: str, key: str, value: object) -> Range | None:
    """Returns the allowed range when `value`, or a number in the list `value`, is outside it; otherwise None."""
    allowed = RANGES[section].get(key)
    numbers = value if isinstance(value, list) else [value]
    numbers = [number for number in numbers if isinstance(number, (int, float)) and not isinstance(number, bool)]
    return None if allowed is None or all(number in allowed for number in numbers) else allowed
