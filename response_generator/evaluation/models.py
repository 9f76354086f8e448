"""What an evaluation compares: one base model, the adapter, and a baseline that answers the same prompts."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel

from response_generator.config.conflicts import DEFAULTS
from response_generator.config.schema import BARE_BASE, EvaluateArguments
from response_generator.errors import InputError
from response_generator.evaluation.predictions_file import ADAPTER, BASELINE
from response_generator.modeling.adapters import AdapterFile, add_adapter
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.loading import check_loading, check_vocabulary, find_adapter, load_base, load_config
from response_generator.modeling.tokenizer import load_tokenizer


def find(arguments: EvaluateArguments) -> dict[str, AdapterFile | None]:
    """What is evaluated, baseline first: `{name: adapter}`, None for the bare base model.

    Raises:
        InputError: when an adapter does not fit, or two cannot share one base.
    """
    check_loading(arguments)
    contestants: dict[str, AdapterFile | None] = {}
    if arguments.baseline_adapter == BARE_BASE:
        contestants[BASELINE] = None
    elif arguments.baseline_adapter is not None:
        contestants[BASELINE] = find_adapter("baseline_adapter", arguments.baseline_adapter, arguments)
    contestants[ADAPTER] = find_adapter("adapter", arguments.adapter, arguments)
    if BASELINE in contestants:
        # The baseline, too, is asked in the tokens of the evaluated adapter's tokenizer.
        tokenizer = load_tokenizer(arguments, contestants[ADAPTER])
        base_rows = load_config(arguments).vocab_size
        check_vocabulary(tokenizer, contestants[BASELINE], base_rows, "baseline_adapter")
    check_layers(contestants)
    replacing = [file.folder for file in contestants.values() if file and file.replaces_base_embeddings]
    if replacing and len(contestants) > 1:
        raise InputError(
            f"baseline_adapter: {replacing[0]} replaces the base's embeddings, so another model cannot share its base "
            f"in one run; evaluate each in a run of its own"
        )
    return contestants


def check_layers(contestants: dict[str, AdapterFile | None]) -> None:
    """Raises InputError where unsloth's decoding would look for an adapter in layers that it is not on, and crash."""
    adapters = [adapter for adapter in contestants.values() if adapter]
    if not has_unsloth_gpu_code() or len({frozenset(adapter.layers) for adapter in adapters}) < 2:
        return
    one, other = adapters
    example = min(one.layers ^ other.layers)
    raise InputError(
        f"baseline_adapter: {one.folder} and {other.folder} are not on the same layers (for example {example}): "
        f"unsloth cannot generate with both on a card; evaluate each in a run of its own, then compare them: "
        f"evaluate.py --compare RUN_FOLDER RUN_FOLDER"
    )


def context_length(arguments: EvaluateArguments) -> int:
    """Tokens of prompt and reply together that the loaded model can hold."""
    own = load_config(arguments).max_position_embeddings
    positions = arguments.from_pretrained.get("max_position_embeddings", own)
    if arguments.backend != "unsloth":
        return positions
    loaded = arguments.from_pretrained.get("max_seq_length") or DEFAULTS["max_seq_length"]
    # unsloth's GPU code stretches the positions of a model, its CPU backend does not.
    return loaded if has_unsloth_gpu_code() else min(loaded, positions)


def load(arguments: EvaluateArguments, contestants: dict[str, AdapterFile | None]) -> PeftModel:
    """One base with every contestant's adapter on it, ready to generate."""
    model = load_base(arguments)
    for name, adapter in contestants.items():
        if adapter is not None:
            model = add_adapter(model, adapter, name)
    if arguments.backend == "unsloth":
        from unsloth import FastLanguageModel

        FastLanguageModel.for_inference(model)
    return model.eval()


@contextmanager
def use_adapter(model: PeftModel, adapter: AdapterFile | None, name: str) -> Iterator[None]:
    """Makes one contestant the active one."""
    if adapter is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(name)
        yield
