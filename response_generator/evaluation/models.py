"""The models of an evaluation: one base model, and on it the adapter and the baseline, which get the same prompts."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel

from response_generator.config.conflicts import LIBRARY_DEFAULTS
from response_generator.config.schema import BARE_BASE_MODEL, EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE
from response_generator.errors import InputError
from response_generator.modeling.adapters import AdapterFile, add_adapter
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.base_config import check_loading, load_config
from response_generator.modeling.loading import check_vocabulary, find_adapter, load_base
from response_generator.modeling.tokenizer import load_tokenizer

Adapters = dict[str, AdapterFile | None]  # by the model's name; None for the bare base model


def resolve_adapters(arguments: EvaluateArguments) -> Adapters:
    """The adapter of each evaluated model, baseline first.

    Raises:
        InputError: when an adapter does not fit the base, or two adapters cannot share one base.
    """
    check_loading(arguments)
    adapters: Adapters = {}
    if arguments.baseline_adapter == BARE_BASE_MODEL:
        adapters[BASELINE] = None
    elif arguments.baseline_adapter is not None:
        adapters[BASELINE] = find_adapter("baseline_adapter", arguments.baseline_adapter, arguments)
    adapters[ADAPTER] = find_adapter("adapter", arguments.adapter, arguments)
    if BASELINE in adapters:
        # The baseline's prompts are tokenized by the evaluated adapter's tokenizer, too.
        tokenizer = load_tokenizer(arguments, adapters[ADAPTER])
        base_rows = load_config(arguments).vocab_size
        check_vocabulary(tokenizer, adapters[BASELINE], base_rows, "baseline_adapter")
    check_layers(adapters)
    replacing = [adapter.folder for adapter in adapters.values() if adapter and adapter.replaces_base_embeddings]
    if replacing and len(adapters) > 1:
        raise InputError(
            f"baseline_adapter: {replacing[0]} replaces the base's embeddings, so another model cannot share its base "
            f"in one run; evaluate each in a run of its own"
        )
    return adapters


def check_layers(adapters: Adapters) -> None:
    """unsloth's generation on a GPU crashes when two adapters are on different layers of the base.

    Raises:
        InputError: when they are.
    """
    files = [adapter for adapter in adapters.values() if adapter]
    if not has_unsloth_gpu_code() or len({frozenset(adapter.layers) for adapter in files}) < 2:
        return
    one, other = files
    example = min(one.layers ^ other.layers)
    raise InputError(
        f"baseline_adapter: {one.folder} and {other.folder} are not on the same layers (for example {example}): "
        f"unsloth cannot generate with both on a GPU; evaluate each in a run of its own, then compare them: "
        f"evaluate.py --compare RUN_FOLDER RUN_FOLDER"
    )


def context_length(arguments: EvaluateArguments) -> int:
    """Maximum number of tokens of prompt and reply together in the loaded model."""
    own = load_config(arguments).max_position_embeddings
    positions = arguments.from_pretrained.get("max_position_embeddings", own)
    if arguments.backend != "unsloth":
        return positions
    loaded = arguments.from_pretrained.get("max_seq_length") or LIBRARY_DEFAULTS["max_seq_length"]
    # unsloth's GPU code extends a model's positions to max_seq_length, its CPU backend does not.
    return loaded if has_unsloth_gpu_code() else min(loaded, positions)


def load_model(arguments: EvaluateArguments, adapters: Adapters) -> PeftModel:
    """One base model with every adapter on it, ready to generate."""
    model = load_base(arguments)
    for name, adapter in adapters.items():
        if adapter is not None:
            model = add_adapter(model, adapter, name)
    if arguments.backend == "unsloth":
        from unsloth import FastLanguageModel

        FastLanguageModel.for_inference(model)
    return model.eval()


@contextmanager
def use_adapter(model: PeftModel, adapter: AdapterFile | None, name: str) -> Iterator[None]:
    """Makes one of the evaluated models the active one."""
    if adapter is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(name)
        yield
