"""The models of an evaluation: one base model, and on it the adapter and the baseline, which get the same prompts."""

from response_generator.config.schema import BARE_BASE_MODEL, EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE
from response_generator.errors import InputError
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.base_config import check_loading, load_config
from response_generator.modeling.inference import Adapters
from response_generator.modeling.loading import check_vocabulary, find_adapter
from response_generator.modeling.tokenizer import load_tokenizer


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
