"""What this program adds to the keys of PEFT's LoraConfig, transformers' GenerationConfig and from_pretrained."""

from response_generator.config.library.key_rule import (
    ANY_NUMBER,
    BELOW_ONE,
    COUNT,
    COUNT_OR_ZERO,
    EXCLUDED,
    MAX_BEAMS,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_SHARE,
    SEED,
    SHARE,
    KeyRule,
    in_range,
    set_elsewhere,
)

TOKEN_ID = COUNT_OR_ZERO
LORA_EXCLUDED = (
    "auto_mapping base_model_name_or_path inference_mode peft_type peft_version revision runtime_config task_type"
).split()
LORA_KEYS = dict.fromkeys(LORA_EXCLUDED, EXCLUDED) | {
    "alora_invocation_tokens": EXCLUDED,  # activated LoRA: unsloth's kernels do not know it
    "bias": KeyRule(
        values=("none",),
        allowed='"none"; other values train biases of the base model, and the reference uses them too',
    ),
    "init_lora_weights": KeyRule(
        values=(True, "gaussian"),
        allowed='true, "gaussian"; with other values the reference is not the bare base model',
    ),
    "layers_to_transform": COUNT_OR_ZERO,
    "lora_alpha": COUNT,
    "lora_dropout": BELOW_ONE,
    "qalora_group_size": COUNT,
    "r": COUNT,
}
GENERATION_EXCLUDED = (
    "bos_token_id num_return_sequences return_dict_in_generate stop_strings token_healing transformers_version"
).split()
GENERATION_KEYS = dict.fromkeys(GENERATION_EXCLUDED, EXCLUDED) | {
    "pad_token_id": set_elsewhere("it is taken from the tokenizer"),
    "eos_token_id": set_elsewhere("it is taken from the tokenizer"),
    "max_time": set_elsewhere("replies would depend on the speed of the machine; use max_new_tokens"),
    "assistant_confidence_threshold": SHARE,
    "assistant_early_exit": COUNT,
    "assistant_ensemble_weight": SHARE,
    "assistant_lookbehind": COUNT,
    "decoder_start_token_id": TOKEN_ID,
    "encoder_no_repeat_ngram_size": COUNT_OR_ZERO,
    "encoder_repetition_penalty": POSITIVE,
    "epsilon_cutoff": BELOW_ONE,
    "eta_cutoff": BELOW_ONE,
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
    "num_beams": in_range(1, MAX_BEAMS),
    "prompt_lookup_num_tokens": COUNT,
    "repetition_penalty": POSITIVE,
    "target_lookbehind": COUNT,
    "temperature": POSITIVE,  # greedy decoding is do_sample: false
    "top_h": POSITIVE_SHARE,
    "top_k": COUNT_OR_ZERO,
    "top_p": SHARE,
    "typical_p": POSITIVE_SHARE,
}
# from_pretrained of transformers accepts these too, but as **kwargs, so its signature does not show them.
TRANSFORMERS_KEYWORDS = {
    "attn_implementation",
    "device_map",
    "dtype",
    "load_in_4bit",
    "low_cpu_mem_usage",
    "max_memory",
    "offload_folder",
    "trust_remote_code",
}
LOADING_EXCLUDED = "model_name on_model_resolved revision".split()
LOADING_KEYS = dict.fromkeys(LOADING_EXCLUDED, EXCLUDED) | {
    "token": set_elsewhere("never write a token into a file; set HF_TOKEN in the environment"),
    "attention_dropout": BELOW_ONE,
    "bos_token_id": TOKEN_ID,
    "eos_token_id": TOKEN_ID,
    "head_dim": COUNT,
    "hidden_size": COUNT,
    "initializer_range": NOT_NEGATIVE,
    "intermediate_size": COUNT,
    "max_position_embeddings": COUNT,
    "num_attention_heads": COUNT,
    "num_hidden_layers": COUNT,
    "num_key_value_heads": COUNT,
    "pad_token_id": TOKEN_ID,
    "pretraining_tp": COUNT,
    "rms_norm_eps": POSITIVE_SHARE,
    "vocab_size": COUNT,
    # From here on, keys that the libraries do not document, or not in a form that can be read.
    "attn_implementation": KeyRule(
        types="string null",
        values=("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
        meaning="Attention: flash_attention_2 needs the package flash-attn and a CUDA device; without them sdpa is "
        "used.",
    ),
    "device_map": KeyRule(
        types="string object integer",
        pattern=r"auto|balanced|balanced_low_0|sequential|cpu|(cuda|xpu)(:\d+)?",
        allowed="auto, balanced, sequential, cpu, cuda, cuda:0, an object that maps modules to devices",
        meaning="Devices of the modules. auto: the whole model on each process's own device.",
    ),
    "device_map_planner_kwargs": KeyRule(meaning="Settings of unsloth's device map planner."),
    "disable_log_stats": KeyRule(meaning="Do not log statistics of vLLM."),
    "dtype": KeyRule(
        types="string null",
        values=("bfloat16", "float16", "float32"),
        meaning="Data type of the computation; null: bfloat16 where the processor has it, else float16 or float32.",
    ),
    "fast_inference": KeyRule(meaning="Load the model into vLLM as well."),
    "fix_tokenizer": KeyRule(meaning="Let unsloth repair known errors of tokenizers."),
    "float32_mixed_precision": KeyRule(meaning="Keep float32 weights and compute in a lower precision."),
    "float8_kv_cache": KeyRule(meaning="8-bit KV cache of vLLM."),
    "full_finetuning": KeyRule(meaning="Train all weights. This program trains adapters."),
    "gpu_memory_utilization": KeyRule(
        range=POSITIVE_SHARE.range, meaning="Share of the GPU memory that vLLM may take."
    ),
    "load_in_16bit": KeyRule(meaning="Load the base model in 16 bits."),
    "load_in_4bit": KeyRule(meaning="Load the base model in 4 bits (NF4), as QLoRA does."),
    "load_in_8bit": KeyRule(meaning="Load the base model in 8 bits."),
    "load_in_fp8": KeyRule(meaning="Load the base model in 8-bit floating point."),
    "low_cpu_mem_usage": KeyRule(
        types="boolean",
        meaning="Create the model without weights and then load them, so that they are in memory once.",
    ),
    "max_lora_rank": KeyRule(range=COUNT.range, meaning="Greatest rank of a LoRA adapter in vLLM."),
    "max_memory": KeyRule(types="object null", meaning="Greatest memory per device, for device_map."),
    "max_seq_length": KeyRule(range=COUNT.range, meaning="Greatest number of tokens of a row."),
    "offload_embedding": KeyRule(meaning="Keep the embeddings in CPU memory."),
    "offload_folder": KeyRule(types="string null", meaning="Folder for weights that fit on no device."),
    "qat_scheme": KeyRule(meaning="Quantization-aware training of torchao."),
    "random_state": KeyRule(range=SEED.range, meaning="Random seed of the loader."),
    "resize_model_vocab": KeyRule(meaning="Number of rows of the embeddings after loading."),
    "rope_scaling": KeyRule(meaning="Scaling of the rotary position embeddings, for longer rows."),
    "text_only": KeyRule(meaning="Load only the language model of a model that also reads images."),
    "trust_remote_code": KeyRule(
        meaning="Run Python code from the model's repository. Only for repositories that you trust."
    ),
    "unsloth_tiled_mlp": KeyRule(meaning="Compute the MLP in tiles, which needs less memory."),
    "use_exact_model_name": KeyRule(meaning="Load exactly this repository, not unsloth's 4-bit copy of it."),
    "use_gradient_checkpointing": KeyRule(
        types="boolean string",
        meaning="Compute activations again in the backward pass, which needs less memory; unsloth: also keep them in "
        "CPU memory.",
    ),
}
MODEL_RULES = {"lora": LORA_KEYS, "generation": GENERATION_KEYS, "from_pretrained": LOADING_KEYS}
