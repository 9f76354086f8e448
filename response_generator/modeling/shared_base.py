"""Finds the adapters that share one loaded base model, and checks that they can."""

from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from response_generator.config.schema import LoadingArguments
from response_generator.config.section import BARE_BASE_MODEL
from response_generator.errors import InputError
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.base_config import check_loading, load_config
from response_generator.modeling.inference import Adapters
from response_generator.modeling.loading import check_vocabulary, find_adapter
from response_generator.modeling.tokenizer import load_tokenizer


def find_adapters(arguments: LoadingArguments, names: dict[str, str]) -> Adapters:
    """Finds every adapter and checks it against the base model, whose weights are not loaded.

    Args:
        names: the adapters, or "none" for the bare base model, by their keys in the args.

    Returns:
        The adapters by their keys in the args.

    Raises:
        InputError: when an adapter does not fit the base, or two adapters cannot share one base.
    """
    check_loading(arguments)
    adapters: Adapters = {
        key: None if name == BARE_BASE_MODEL else find_adapter(key, name, arguments) for key, name in names.items()
    }
    check_layers(adapters)
    check_embeddings(adapters)
    return adapters


def load_shared_tokenizer(arguments: LoadingArguments, adapters: Adapters, key: str) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of one of the adapters, which encodes the prompts of all.

    Raises:
        InputError: when another adapter has no embeddings for some of its tokens.
    """
    tokenizer = load_tokenizer(arguments, adapters[key])
    base_rows = load_config(arguments).vocab_size
    for other, adapter in adapters.items():
        check_vocabulary(tokenizer, adapter, base_rows, other)
    return tokenizer


def check_layers(adapters: Adapters) -> None:
    """unsloth's generation on a GPU crashes when two adapters are on different layers of the base.

    Raises:
        InputError: when they are.
    """
    files = [(key, adapter) for key, adapter in adapters.items() if adapter]
    for (key, one), (_, other) in pairwise(files):
        if has_unsloth_gpu_code() and one.layers != other.layers:
            example = min(one.layers ^ other.layers)
            raise InputError(
                f"{key}: {one.folder} and {other.folder} are not on the same layers (for example {example}): unsloth "
                f"cannot generate with both on a GPU; load each in a run of its own (evaluations can then be compared: "
                f"evaluate.py --compare RUN_FOLDER RUN_FOLDER)"
            )


def check_embeddings(adapters: Adapters) -> None:
    for key, adapter in adapters.items():
        if adapter and adapter.replaces_base_embeddings and len(adapters) > 1:
            raise InputError(
                f"{key}: {adapter.folder} replaces the base's embeddings, so another model cannot share its base in "
                f"one run; load each in a run of its own"
            )
