"""The check after training that both methods share: the adapter has changed."""

import torch
from peft import PeftModel

from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import RunError
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import to_model_key


def check_changed(policy: PeftModel, start: AdapterFile | None) -> None:
    """After training the adapter must not be the one that training started from.

    Raises:
        RunError: when it is.
    """
    weights = dict(policy.named_parameters())
    if start is None:
        changed = any(weight.any() for name, weight in weights.items() if f".lora_B.{POLICY_ADAPTER}." in name)
    else:
        pairs = ((weights.get(to_model_key(name, POLICY_ADAPTER)), tensor) for name, tensor in start.tensors().items())
        changed = any(
            not torch.equal(weight.detach().cpu(), tensor.to(weight.dtype))
            for weight, tensor in pairs
            if weight is not None
        )
    if not changed:
        raise RunError(
            "the adapter is the same as before training: no step was taken, or every update was too small to change it"
        )
