"""Keywords of the libraries that an args file may not hold. This program sets most of them from other keys, so that no
value has two sources; `validation.KEYS_SET_ELSEWHERE` says what to do instead."""

EXCLUDED_TRAINING_FIELDS = {  # of the fields that DPO and SFT share
    "output_dir",
    "seed",
    "report_to",
    "run_name",
    "project",
    "hub_token",
    "disable_tqdm",
    "model_init_kwargs",
    "resume_from_checkpoint",
    "restore_callback_states_from_checkpoint",
    "dataset_num_proc",
    "push_to_hub",
    "hub_model_id",
    "hub_strategy",
    "hub_private_repo",
    "hub_always_push",
    "hub_revision",
    "pad_token",
    "local_rank",
}
EXCLUDED_KEYWORDS = {
    "dpo": EXCLUDED_TRAINING_FIELDS,
    "sft": EXCLUDED_TRAINING_FIELDS
    | {
        "assistant_only_loss",
        "chat_template_path",
        "completion_only_loss",
        "dataset_kwargs",
        "dataset_text_field",
        "eos_token",
        "eval_packing",
        "packing_strategy",
        "shuffle_dataset",
    },
    "trainer": EXCLUDED_TRAINING_FIELDS
    | {
        "save_strategy",
        "save_steps",
        "save_total_limit",
        "logging_strategy",
        "logging_steps",
        "eval_strategy",
        "use_cpu",
    },
    "lora": {
        "peft_type",
        "peft_version",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "task_type",
        "runtime_config",
        "alora_invocation_tokens",  # activated LoRA: unsloth's kernels do not know it
    },
    "generation": {
        "pad_token_id",
        "eos_token_id",
        "bos_token_id",
        "num_return_sequences",
        "max_time",
        "transformers_version",
        "return_dict_in_generate",
        "stop_strings",
        "token_healing",
    },
    "from_pretrained": {"model_name", "token", "args", "kwargs", "on_model_resolved", "revision", "tokenizer_name"},
}
