"""The models of an evaluation: one base model, and on it the adapter and the baseline, which get the same prompts."""

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE
from response_generator.modeling.inference import Adapters
from response_generator.modeling.shared_base import find_adapters, load_shared_tokenizer


def resolve_adapters(arguments: EvaluateArguments) -> Adapters:
    """The adapter of each evaluated model, baseline first. The prompts are tokenized by the evaluated adapter's
    tokenizer.

    Raises:
        InputError: when an adapter does not fit the base, or two adapters cannot share one base.
    """
    keys = {"adapter": ADAPTER}
    names = {"adapter": arguments.adapter}
    if arguments.baseline_adapter is not None:
        keys = {"baseline_adapter": BASELINE} | keys
        names = {"baseline_adapter": arguments.baseline_adapter} | names
    adapters = find_adapters(arguments, names)
    if len(adapters) > 1:
        load_shared_tokenizer(arguments, adapters, "adapter")  # checks that the baseline has embeddings for its tokens
    return {keys[key]: adapter for key, adapter in adapters.items()}
