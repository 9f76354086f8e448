"""How far the log-probabilities of a server are from those of the model as it would be loaded here."""

from collections.abc import Mapping, Sequence

import numpy as np
from accelerate.utils.memory import clear_device_cache

from response_generator.config.schema import LoadingArguments
from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.generation.server.client import ServerClient
from response_generator.generation.server.completions import ServedModel
from response_generator.generation.server.probe import PROBE_REQUESTS, split_prompts
from response_generator.modeling import inference
from response_generator.modeling.logprobs import completion_logps

PAD = 0  # any token: padding is masked


def compare_with_local(
    arguments: LoadingArguments,
    adapters: inference.Adapters,
    served: Mapping[str, str],
    logprobs: str | None,
    requests: Sequence[GenerationRequest],
) -> str:
    """Loads the model, and compares the log-probabilities of the second halves of a few prompts.

    Args:
        adapters: by their names here. served: what the server calls them. logprobs: of `completions.LOGPROBS`.

    Returns:
        A sentence for environment.json.

    Raises:
        InputError: when the server has no log-probabilities.
    """
    if logprobs is None:
        raise InputError(
            "server.compare_with_local: this server has no log-probabilities of given tokens; remove the key"
        )
    halves = split_prompts(requests[:PROBE_REQUESTS])
    with ServerClient(arguments.server) as client:
        models = [ServedModel(client, served[name], send_seed=False, logprobs=logprobs) for name in adapters]
        there = [[model.compute_logp(*each) for each in halves] for model in models]
    model = inference.load_model(arguments.model_copy(update={"backend": "transformers"}), adapters)
    here = []
    for name, adapter in adapters.items():
        with inference.use_adapter(model, adapter, name):
            here.append(completion_logps(model, halves, PAD))
    dtype = str(model.dtype).removeprefix("torch.")
    weights = "4-bit weights" if getattr(model, "is_loaded_in_4bit", False) else f"weights in {dtype}"
    del model
    clear_device_cache(garbage_collection=True)
    gaps = np.array(there) - np.array(here)
    return (
        f"log-probabilities of {len(halves)} texts of {np.mean(np.abs(here)):.1f} nats on average differ from those of "
        f"the model here ({weights}) by {np.mean(gaps):+.3f} nats on average, at most {np.abs(gaps).max():.3f}"
    )
