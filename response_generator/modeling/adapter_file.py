"""The files of a LoRA adapter: reads them, and checks them against a base model without loading its weights."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import PretrainedConfig

from response_generator.config import model_files
from response_generator.errors import InputError
from response_generator.modeling.base_config import build_meta_model
from response_generator.modeling.module_patterns import find_pattern_errors

PEFT_PREFIX = "base_model.model."
EMBEDDING_MODULES = ("embed_tokens", "lm_head")
EMBEDDING_WEIGHTS = tuple(f"{module}.weight" for module in EMBEDDING_MODULES)
EMBEDDING_COPY = re.compile(r"(.+)\.(?:modules_to_save|original_module)\.(\w+)")


@dataclass(frozen=True)
class AdapterFile:
    """An adapter folder. `shapes` maps the names of the tensors in its file to their shapes, without duplicate copies
    of an embedding matrix (see `drop_embedding_copies`)."""

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> "AdapterFile":
        """Reads the configuration and the shapes of the tensors.

        Raises:
            InputError: when a file is damaged.
        """
        try:
            config, shapes = model_files.read_adapter(folder)
        except InputError as error:
            raise InputError(*(f"adapter: {message}" for message in error.messages)) from error
        return cls(folder, config, {name: shapes[name] for name in drop_embedding_copies(shapes)})

    @property
    def embedding_rows(self) -> int | None:
        """The number of rows of the embedding matrices in the adapter's file; None when it holds none."""
        rows = [shape[0] for name, shape in self.shapes.items() if name.endswith(EMBEDDING_WEIGHTS)]
        return rows[0] if rows else None

    @property
    def replaces_base_embeddings(self) -> bool:
        """True when the file holds an embedding matrix that `modules_to_save` does not list.

        PEFT loads such a matrix into the base model itself, so two adapters with one each cannot share a base model.
        """
        stored = {module for name in self.shapes for module in EMBEDDING_MODULES if name.endswith(f"{module}.weight")}
        return not stored <= set(self.config.get("modules_to_save") or ())

    @property
    def layers(self) -> set[str]:
        """The names of the base model's layers that have LoRA weights in this adapter."""
        return {name.partition(".lora_A.")[0].removeprefix(PEFT_PREFIX) for name in self.shapes if ".lora_A." in name}

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / "tokenizer_config.json").is_file()

    def tensors(self) -> dict[str, torch.Tensor]:
        tensors = load_file(self.folder / "adapter_model.safetensors")
        return {name: tensors[name] for name in self.shapes}

    def check_fits(self, key: str, base: PretrainedConfig) -> None:
        """Checks that the file holds exactly the tensors that PEFT would create from the adapter's configuration on
        the base model, in the same shapes, and perhaps embeddings. The base model is built without weights.

        Raises:
            InputError: when the adapter was made for another base model, or its tensors do not match its configuration.
                PEFT would ignore surplus tensors and initialize missing ones as in a new adapter.
        """
        prefix = f"{key}: {self.folder}"
        layers, hidden_size, expected = self.compute_expected_shapes(prefix, base)
        self.check_embedding_shapes(prefix, hidden_size)
        for name, shape in self.shapes.items():
            layer, _, part = name.removeprefix(PEFT_PREFIX).rpartition(".lora_")
            module = name.removeprefix(PEFT_PREFIX).rpartition(".")[0].rpartition(".")[2]
            if not layer and module in EMBEDDING_MODULES:
                continue  # `check_embedding_shapes` checked the shape; `check_vocabulary` checks the number of rows
            if layer and layer not in layers:
                raise InputError(f"{prefix}: {self.describe_other_base()}: base_model has no such layer: {layer}")
            if name not in expected:
                raise InputError(f"{prefix}: holds {name}, which its {model_files.ADAPTER_CONFIG} does not ask for")
            if shape != expected[name]:
                raise InputError(f"{prefix}: {self.describe_mismatch(layer or name, part, shape, expected[name])}")
        missing = sorted(set(expected) - set(self.shapes))
        if missing:
            raise InputError(
                f"{prefix}: lacks {len(missing)} of {len(expected)} tensors that its {model_files.ADAPTER_CONFIG} asks "
                f"for on this base model, for example {missing[0]}; download or train the adapter again, or name the "
                f"base model it was made for"
            )

    def check_embedding_shapes(self, prefix: str, hidden_size: int) -> None:
        """Raises InputError unless all embedding matrices have the same number of rows and the base model's width."""
        matrices = {name: shape for name, shape in self.shapes.items() if name.endswith(EMBEDDING_WEIGHTS)}
        for name, shape in matrices.items():
            expected = (*next(iter(matrices.values()))[:1], hidden_size)
            if shape != expected or 0 in shape:
                raise InputError(
                    f"{prefix}: {name} has the shape {shape}; needed: one row per token, the same number of rows in "
                    f"every embedding matrix, and {hidden_size} columns as in base_model; download or train the "
                    f"adapter again, or name the base model it was made for"
                )

    def describe_other_base(self) -> str:
        return f"made for another base model ({self.config.get('base_model_name_or_path')})"

    def describe_mismatch(self, layer: str, part: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """Says whether a tensor has the wrong shape because of another rank or because of another base model."""
        if part in ("A.weight", "B.weight") and len(shape) == len(expected):
            side, features, rank = ("in", 1, 0) if part == "A.weight" else ("out", 0, 1)
            if shape[rank] != expected[rank]:
                return (
                    f"{layer} has rank {shape[rank]} in {model_files.ADAPTER_WEIGHTS}, {expected[rank]} in "
                    f"{model_files.ADAPTER_CONFIG}; the two files come from different training runs"
                )
            return (
                f"{self.describe_other_base()}: {layer} has {shape[features]} {side} features in the adapter, "
                f"{expected[features]} in base_model"
            )
        return f"{self.describe_other_base()}: {layer} has the shape {shape} in the adapter, {expected} on base_model"

    def compute_expected_shapes(
        self, prefix: str, base: PretrainedConfig
    ) -> tuple[set[str], int, dict[str, tuple[int, ...]]]:
        """Lets PEFT create this adapter on the base model, without weights.

        Returns:
            The names of the base model's layers, the width of its embeddings, and the shape of each tensor that PEFT
            would save, by its name in the file.

        Raises:
            InputError: with the error of PEFT, when the configuration is invalid or fits no layer of the base model.
        """
        model = build_meta_model(base)
        layers, hidden_size = {name for name, _ in model.named_modules()}, model.get_input_embeddings().weight.shape[1]
        errors = find_pattern_errors(self.config, layers)
        if errors:
            raise InputError(*(f"{prefix}/{model_files.ADAPTER_CONFIG}: {message}" for message in errors))
        try:
            config = LoraConfig.from_pretrained(self.folder)
            config.base_model_name_or_path, config.init_lora_weights = None, False  # only the shapes are needed
            with torch.device("meta"):
                adapted = get_peft_model(model, config)
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        except Exception as error:  # PEFT raises exceptions of many types for invalid fields
            raise InputError(f"{prefix}: PEFT cannot add it to base_model: {error}") from error
        return layers, hidden_size, {name: tuple(tensor.shape) for name, tensor in expected.items()}

    def check_finite(self, key: str) -> None:
        """Checks that no tensor holds NaN or infinity, which would spread to everything that is trained or generated.

        Raises:
            InputError: when one does, or when torch cannot compute with its data type.
        """
        prefix = f"{key}: {self.folder}"
        with safe_open(self.folder / model_files.ADAPTER_WEIGHTS, framework="pt") as tensors:
            for name in self.shapes:
                try:
                    is_finite = tensors.get_tensor(name).float().isfinite().all()
                except (SafetensorError, NotImplementedError) as error:  # 4-bit and 6-bit data types
                    raise InputError(
                        f"{prefix}: {name} has a data type that torch cannot compute with ({error}); convert it to "
                        f"float32"
                    ) from error
                if not is_finite:
                    raise InputError(
                        f"{prefix}: {name} holds NaN or infinity: the training that wrote it failed; name an earlier "
                        f"checkpoint of that training"
                    )


def drop_embedding_copies(names: Iterable[str]) -> list[str]:
    """Returns the names of the tensors in a file, without the copies of an embedding matrix that PEFT does not load.

    Some versions of PEFT, such as 0.11, save an embedding X of `modules_to_save` three times: as X.weight, which they
    load, again as X.modules_to_save.weight, and the matrix of the base model as X.original_module.weight.
    """
    stored = set(names) - {"__metadata__"}
    copies = {
        name for name in stored if (match := EMBEDDING_COPY.fullmatch(name)) and f"{match[1]}.{match[2]}" in stored
    }
    return sorted(stored - copies)
