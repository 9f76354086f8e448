"""Adds LoRA adapters to a model, and saves them."""

from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import ModulesToSaveWrapper
from transformers import PreTrainedModel

from response_generator.config import model_files
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.runs import atomic_files


def to_model_key(name_in_file: str, adapter_name: str) -> str:
    """Converts the name of a tensor in an adapter file to its name in a PeftModel, which contains `adapter_name`."""
    layer, separator, part = name_in_file.rpartition(".lora_")
    if separator:
        matrix, _, rest = part.partition(".")
        if matrix.startswith("embedding_"):
            return f"{layer}.lora_{matrix}.{adapter_name}"
        return f"{layer}.lora_{matrix}.{adapter_name}.{rest or 'weight'}"  # DoRA magnitudes have no .weight in the file
    module, _, parameter = name_in_file.rpartition(".")
    return f"{module}.modules_to_save.{adapter_name}.{parameter}"


def add_adapter(
    model: PreTrainedModel | PeftModel, adapter: AdapterFile, name: str, trainable: bool = False
) -> PeftModel:
    """Loads an adapter into the model under `name` and makes it the active one.

    LoRA weights are loaded in fp32. So are the modules that the adapter replaces as a whole (`modules_to_save`) when
    `trainable` is true. When the adapter has embeddings for added tokens, the model is resized to that number of rows.
    """
    rows = adapter.embedding_rows
    if rows is not None and rows != model.get_input_embeddings().weight.shape[0]:
        # The adapter overwrites every row, so initializing the new ones with the mean would be wasted time.
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
    """Loads in fp32 the modules that an adapter replaces as a whole, such as embeddings.

    PEFT loads them in the dtype of the base model, and bfloat16 would round the trained values.
    """
    weights = dict(model.named_parameters())
    for key, tensor in adapter.tensors().items():
        weight = weights.get(to_model_key(key, name))
        if weight is not None and ".lora_" not in key:
            weight.data = tensor.to(weight.device, torch.float32)


def write_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Saves one adapter of the model, with a single copy of each module that it replaces as a whole."""
    with atomic_files.name_file_in_errors(folder / model_files.ADAPTER_WEIGHTS):
        model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=has_embeddings_to_save(model))


def has_embeddings_to_save(model: PeftModel) -> bool:
    """Returns whether the base model was resized and no adapter holds its embeddings, so that they have to be saved
    with the LoRA weights.

    PEFT's own check asks the hub, assumes an unchanged vocabulary when there is no network, and would save embeddings
    of `modules_to_save` three times.
    """
    base = model.get_base_model()
    embeddings = (base.get_input_embeddings(), base.get_output_embeddings())
    if all(isinstance(module, ModulesToSaveWrapper) for module in embeddings):
        return False
    config = base.config
    original = type(config).from_pretrained(config.name_or_path, revision=config._commit_hash)
    return original.vocab_size != config.vocab_size
