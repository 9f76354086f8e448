"""LoRA adapters as files: what they hold, and whether they fit a base model, read without loading any weight."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PretrainedConfig

from response_generator.errors import InputError

PREFIX = "base_model.model."
EMBEDDINGS = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter folder. `shapes` are the tensors' by their name in the file."""

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> "AdapterFile":
        """Raises InputError when the folder's files are damaged."""
        weights = folder / "adapter_model.safetensors"
        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            # A safetensors file begins with the length of its header, then the header as JSON.
            with open(weights, "rb") as file:
                header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        except (OSError, ValueError, struct.error) as error:
            raise InputError(f"adapter: {folder}: damaged ({error}); fetch or train it again") from error
        shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
        return cls(folder, config, shapes)

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the embedding or output matrix this adapter brings along; None when it brings none."""
        rows = [
            shape[0]
            for name, shape in self.shapes.items()
            if name.endswith(tuple(f"{part}.weight" for part in EMBEDDINGS))
        ]
        return rows[0] if rows else None

    @property
    def replaces_base_embeddings(self) -> bool:
        """True when the embeddings are stored as the base's own, not under `modules_to_save`: two cannot coexist."""
        return self.embedding_rows is not None and not self.config.get("modules_to_save")

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / "tokenizer_config.json").is_file()

    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(self.folder / "adapter_model.safetensors")

    def check_fits(self, key: str, base: PretrainedConfig) -> None:
        """Compares LoRA shapes with the base's layers, built without weights.

        Raises:
            InputError: when the adapter was made for another base, or is no LoRA adapter.
        """
        if self.config.get("peft_type") != "LORA":
            raise InputError(f"{key}: {self.folder}: is a {self.config.get('peft_type')} adapter; allowed: LORA")
        with torch.device("meta"):
            layers = dict(AutoModelForCausalLM.from_config(base).named_modules())
        for name, shape in self.shapes.items():
            layer, _, part = name.removeprefix(PREFIX).rpartition(".lora_")
            if part not in ("A.weight", "B.weight"):
                continue
            side, size = ("in", shape[1]) if part.startswith("A") else ("out", shape[0])
            expected = getattr(layers.get(layer), f"{side}_features", None)
            if expected != size:
                made_for = self.config.get("base_model_name_or_path")
                here = f"{expected} in base_model" if layer in layers else "base_model has no such layer"
                raise InputError(
                    f"{key}: {self.folder}: made for another base model ({made_for}): "
                    f"{layer} has {size} {side} features in the adapter, {here}"
                )


def key_in_model(name_in_file: str, adapter_name: str) -> str:
    """The name of a file's tensor inside a PeftModel, where each adapter's weights carry its name."""
    layer, dot, part = name_in_file.rpartition(".lora_")
    if dot:
        matrix, _, rest = part.partition(".")
        return f"{layer}.lora_{matrix}.{adapter_name}.{rest or 'weight'}"  # DoRA's magnitudes are stored without it
    module, _, parameter = name_in_file.rpartition(".")
    return f"{module}.modules_to_save.{adapter_name}.{parameter}"
