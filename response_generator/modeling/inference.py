"""Loads one base model with adapters on it for generation, and switches between them."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from transformers import PreTrainedModel

from response_generator.config.library.library_keywords import read_default
from response_generator.config.schema import LoadingArguments
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.backend import has_unsloth_gpu_code, import_unsloth
from response_generator.modeling.base_config import load_config
from response_generator.modeling.base_model import load_base

Adapters = dict[str, AdapterFile | None]  # by the model's name; None for the bare base model


def context_length(arguments: LoadingArguments) -> int:
    """Maximum number of tokens of prompt and reply together in the loaded model."""
    own = load_config(arguments).max_position_embeddings
    positions = arguments.from_pretrained.get("max_position_embeddings", own)
    if arguments.backend != "unsloth" or getattr(arguments, "server", None):
        return positions  # a server's own context is compared when it is asked
    loaded = arguments.from_pretrained.get("max_seq_length") or read_default("from_pretrained", "max_seq_length")
    # unsloth's GPU code extends a model's positions to max_seq_length, its CPU backend does not.
    return loaded if has_unsloth_gpu_code() else min(loaded, positions)


def load_model(arguments: LoadingArguments, adapters: Adapters) -> PeftModel | PreTrainedModel:
    """One base model with every adapter on it, ready to generate; the base model alone when there are no adapters."""
    model = load_base(arguments)
    for name, adapter in adapters.items():
        if adapter is not None:
            model = add_adapter(model, adapter, name)
    if arguments.backend == "unsloth":
        import_unsloth().FastLanguageModel.for_inference(model)
    return model.eval()


@contextmanager
def use_adapter(model: PeftModel | PreTrainedModel, adapter: AdapterFile | None, name: str) -> Iterator[None]:
    """Makes one of the models the active one."""
    if not isinstance(model, PeftModel):
        yield
    elif adapter is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(name)
        yield
