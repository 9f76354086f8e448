"""LoRA adapters: what their files hold and whether they fit a base model, without loading any weight; then onto a
model, and back into files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import PretrainedConfig, PreTrainedModel

from response_generator.config import model_files
from response_generator.errors import InputError
from response_generator.modeling.meta_model import build_meta_model

PEFT_PREFIX = "base_model.model."
TABLE_COPY = re.compile(r"(.+)\.(?:modules_to_save|original_module)\.(\w+)")
EMBEDDINGS = ("embed_tokens", "lm_head")
TABLES = tuple(f"{part}.weight" for part in EMBEDDINGS)


@dataclass(frozen=True)
class AdapterFile:
    """An adapter folder. `shapes` are the tensors' by their name in the file, each table once."""

    folder: Path
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def read(cls, folder: Path) -> "AdapterFile":
        """Raises InputError when the folder's files are damaged."""
        try:
            config, shapes = model_files.read_adapter(folder)
        except InputError as error:
            raise InputError(*(f"adapter: {message}" for message in error.messages)) from error
        return cls(folder, config, {name: shapes[name] for name in drop_table_copies(shapes)})

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the embedding or output matrix this adapter brings along; None when it brings none."""
        rows = [shape[0] for name, shape in self.shapes.items() if name.endswith(TABLES)]
        return rows[0] if rows else None

    @property
    def replaces_base_embeddings(self) -> bool:
        """True when embeddings are stored as the base's own, not under `modules_to_save`: two cannot coexist."""
        brought = {part for name in self.shapes for part in EMBEDDINGS if name.endswith(f"{part}.weight")}
        return not brought <= set(self.config.get("modules_to_save") or ())

    @property
    def layers(self) -> set[str]:
        """The layers of the base that it adapts."""
        return {name.partition(".lora_A.")[0].removeprefix(PEFT_PREFIX) for name in self.shapes if ".lora_A." in name}

    @property
    def has_tokenizer(self) -> bool:
        return (self.folder / "tokenizer_config.json").is_file()

    def tensors(self) -> dict[str, torch.Tensor]:
        tensors = load_file(self.folder / "adapter_model.safetensors")
        return {name: tensors[name] for name in self.shapes}

    def check_fits(self, key: str, base: PretrainedConfig) -> None:
        """Compares its tensors with those that PEFT makes from its configuration on the base, built without weights.

        Raises:
            InputError: when the adapter was made for another base, or holds other tensors than its configuration
                asks for: PEFT would leave some out, or start some anew.
        """
        place = f"{key}: {self.folder}"
        layers, width, expected = self.expected_shapes(place, base)
        self.check_tables(place, width)
        for name, shape in self.shapes.items():
            layer, _, part = name.removeprefix(PEFT_PREFIX).rpartition(".lora_")
            if not layer and name.removeprefix(PEFT_PREFIX).rpartition(".")[0].rpartition(".")[2] in EMBEDDINGS:
                continue  # rows for added tokens: `check_tables`, and `check_vocabulary` counts them
            if layer and layer not in layers:
                raise InputError(f"{place}: {self.other_base}: base_model has no such layer: {layer}")
            if name not in expected:
                raise InputError(f"{place}: holds {name}, which its {model_files.ADAPTER_CONFIG} does not ask for")
            if shape != expected[name]:
                raise InputError(f"{place}: {self.differing_shape(layer or name, part, shape, expected[name])}")
        absent = sorted(set(expected) - set(self.shapes))
        if absent:
            raise InputError(
                f"{place}: lacks {len(absent)} of {len(expected)} tensors that its {model_files.ADAPTER_CONFIG} asks "
                f"for on this base, for example {absent[0]}; fetch or train it again, or name the base it was made for"
            )

    def check_tables(self, place: str, width: int) -> None:
        """Raises InputError unless the embedding and output matrices that it brings are as wide as the base's, and have
        the same rows."""
        tables = {name: shape for name, shape in self.shapes.items() if name.endswith(TABLES)}
        for name, shape in tables.items():
            expected = (*next(iter(tables.values()))[:1], width)
            if shape != expected or 0 in shape:
                raise InputError(
                    f"{place}: {name} has the shape {shape}; needed: a row for each token, as many in each such table, "
                    f"of {width} numbers as in base_model; fetch or train it again, or name the base it was made for"
                )

    @property
    def other_base(self) -> str:
        return f"made for another base model ({self.config.get('base_model_name_or_path')})"

    def differing_shape(self, layer: str, part: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """What a tensor of another shape than the expected one says: another rank, or another base."""
        if part in ("A.weight", "B.weight") and len(shape) == len(expected):
            side, size, rank = ("in", 1, 0) if part == "A.weight" else ("out", 0, 1)
            if shape[rank] != expected[rank]:
                return (
                    f"{layer} has rank {shape[rank]} in {model_files.ADAPTER_WEIGHTS}, {expected[rank]} in "
                    f"{model_files.ADAPTER_CONFIG}; the two files are not of one training"
                )
            return (
                f"{self.other_base}: {layer} has {shape[size]} {side} features in the adapter, {expected[size]} in "
                f"base_model"
            )
        return f"{self.other_base}: {layer} has the shape {shape} in the adapter, {expected} on base_model"

    def expected_shapes(self, place: str, base: PretrainedConfig) -> tuple[set[str], int, dict[str, tuple[int, ...]]]:
        """The layers of the base, the width of its embeddings, and the shapes that PEFT makes of the adapter's
        configuration on it, by their names in the file.

        Raises:
            InputError: in PEFT's words, when its configuration is not one, or fits no layer of the base.
        """
        model = build_meta_model(base)
        layers, width = {name for name, _ in model.named_modules()}, model.get_input_embeddings().weight.shape[1]
        try:
            config = LoraConfig.from_pretrained(self.folder)
            config.base_model_name_or_path, config.init_lora_weights = None, False  # shapes alone are asked for
            with torch.device("meta"):
                adapted = get_peft_model(model, config)
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        except Exception as error:  # whatever its fields hold, PEFT looks at them in many places
            raise InputError(f"{place}: PEFT cannot put it on base_model: {error}") from error
        return layers, width, {name: tuple(tensor.shape) for name, tensor in expected.items()}

    def check_finite(self, key: str) -> None:
        """Raises InputError when a tensor holds NaN or infinity: a run from there learns and writes nothing else."""
        with safe_open(self.folder / model_files.ADAPTER_WEIGHTS, framework="pt") as tensors:
            for name in self.shapes:
                try:
                    finite = tensors.get_tensor(name).float().isfinite().all()
                except (SafetensorError, NotImplementedError) as error:  # numbers of 4 or 6 bits
                    raise InputError(
                        f"{key}: {self.folder}: {name} holds numbers that torch cannot compute with ({error}); convert "
                        f"them to float32"
                    ) from error
                if not finite:
                    raise InputError(
                        f"{key}: {self.folder}: {name} holds NaN or infinity: the training that wrote it had failed; "
                        f"name an earlier checkpoint of it"
                    )


def drop_table_copies(names: Iterable[str]) -> list[str]:
    """The names of a file's tensors without the second and third copy of a table.

    PEFT 0.11 and others wrote an embedding of `modules_to_save` as X.weight, which is what they load, again as
    X.modules_to_save.weight, and the base's own as X.original_module.weight.
    """
    known = set(names) - {"__metadata__"}
    copies = {name for name in known if (table := TABLE_COPY.fullmatch(name)) and f"{table[1]}.{table[2]}" in known}
    return sorted(known - copies)


def to_model_key(name_in_file: str, adapter_name: str) -> str:
    """The name of a file's tensor inside a PeftModel, where each adapter's weights carry its name."""
    layer, dot, part = name_in_file.rpartition(".lora_")
    if dot:
        matrix, _, rest = part.partition(".")
        if matrix.startswith("embedding_"):
            return f"{layer}.lora_{matrix}.{adapter_name}"
        return f"{layer}.lora_{matrix}.{adapter_name}.{rest or 'weight'}"  # DoRA's magnitudes are stored without it
    module, _, parameter = name_in_file.rpartition(".")
    return f"{module}.modules_to_save.{adapter_name}.{parameter}"


def add_adapter(
    model: PreTrainedModel | PeftModel, adapter: AdapterFile, name: str, trainable: bool = False
) -> PeftModel:
    """Puts an adapter on the model under `name` and makes it the active one; LoRA weights are fp32, and so are whole
    modules that the adapter brings when it is `trainable`.

    An adapter that brings embeddings for added tokens gets a base resized to them.
    """
    rows = adapter.embedding_rows
    if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
        # The adapter's rows overwrite all of them, so there is nothing to gain from a careful start.
        model.resize_token_embeddings(rows, mean_resizing=False)
    if isinstance(model, PeftModel):
        model.load_adapter(adapter.folder, adapter_name=name, is_trainable=trainable)
        model.set_adapter(name)
    else:
        model = PeftModel.from_pretrained(model, adapter.folder, adapter_name=name, is_trainable=trainable)
    if trainable:
        load_whole_modules(model, adapter, name)
    return model


def load_whole_modules(model: PeftModel, adapter: AdapterFile, name: str) -> None:
    """Gives the modules that an adapter replaces whole, such as embeddings, the values of its file in fp32.

    PEFT loads them into copies of the base's modules, in the base's dtype: bfloat16 would round what was trained.
    """
    weights = dict(model.named_parameters())
    for key, tensor in adapter.tensors().items():
        weight = weights.get(to_model_key(key, name))
        if weight is not None and ".lora_" not in key:
            weight.data = tensor.to(weight.device, torch.float32)


def write_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Writes one adapter of the model: LoRA, and each whole module that it brings once."""
    model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=has_embeddings_to_save(model))


def has_embeddings_to_save(model: PeftModel) -> bool:
    """True when the base's embeddings were resized and no adapter holds them: then they have to be saved beside LoRA.

    PEFT itself would ask the hub, take a missing network for "not resized", and save tables that the adapter already
    holds three times.
    """
    base = model.get_base_model()
    tables = (base.get_input_embeddings(), base.get_output_embeddings())
    if all(isinstance(table, ModulesToSaveWrapper) for table in tables):
        return False
    config = base.config
    original = type(config).from_pretrained(config._name_or_path, revision=config._commit_hash)
    return original.vocab_size != config.vocab_size
