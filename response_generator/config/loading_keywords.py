"""The keywords of from_pretrained that the libraries do not document, or not in a form that can be read."""

# from_pretrained of transformers accepts these as **kwargs, so its signature does not show them.
TRANSFORMERS_FROM_PRETRAINED = {
    "attn_implementation": ["string", "null"],
    "low_cpu_mem_usage": ["boolean"],
    "max_memory": ["object", "null"],
    "offload_folder": ["string", "null"],
}
MEANINGS = {
    "attn_implementation": "Attention: flash_attention_2 needs the package flash-attn and a CUDA device; without them "
    "sdpa is used.",
    "device_map": "Devices of the modules. auto: the whole model on each process's own device.",
    "device_map_planner_kwargs": "Settings of unsloth's device map planner.",
    "disable_log_stats": "Do not log statistics of vLLM.",
    "dtype": "Data type of the computation; null: bfloat16 where the processor has it, else float16 or float32.",
    "fast_inference": "Load the model into vLLM as well.",
    "fix_tokenizer": "Let unsloth repair known errors of tokenizers.",
    "float32_mixed_precision": "Keep float32 weights and compute in a lower precision.",
    "float8_kv_cache": "8-bit KV cache of vLLM.",
    "full_finetuning": "Train all weights. This program trains adapters.",
    "gpu_memory_utilization": "Share of the GPU memory that vLLM may take.",
    "load_in_16bit": "Load the base model in 16 bits.",
    "load_in_4bit": "Load the base model in 4 bits (NF4), as QLoRA does.",
    "load_in_8bit": "Load the base model in 8 bits.",
    "load_in_fp8": "Load the base model in 8-bit floating point.",
    "low_cpu_mem_usage": "Create the model without weights and then load them, so that they are in memory once.",
    "max_lora_rank": "Greatest rank of a LoRA adapter in vLLM.",
    "max_memory": "Greatest memory per device, for device_map.",
    "max_seq_length": "Greatest number of tokens of a row.",
    "offload_embedding": "Keep the embeddings in CPU memory.",
    "offload_folder": "Folder for weights that fit on no device.",
    "qat_scheme": "Quantization-aware training of torchao.",
    "random_state": "Random seed of the loader.",
    "resize_model_vocab": "Number of rows of the embeddings after loading.",
    "rope_scaling": "Scaling of the rotary position embeddings, for longer rows.",
    "text_only": "Load only the language model of a model that also reads images.",
    "trust_remote_code": "Run Python code from the model's repository. Only for repositories that you trust.",
    "unsloth_tiled_mlp": "Compute the MLP in tiles, which needs less memory.",
    "use_exact_model_name": "Load exactly this repository, not unsloth's 4-bit copy of it.",
    "use_gradient_checkpointing": "Compute activations again in the backward pass, which needs less memory; unsloth: "
    "also keep them in CPU memory.",
}
