"""The loss before the first step of DPO: where its value is known, and what it is called where it is shown."""

import math

from trl import DPOConfig

LOSS_PARTS = "initial_loss/"  # before the name of a loss type, in metrics.json
LN_2 = math.log(2)
TITLE = "loss before the first step"
KNOWN_VALUE = f"ln 2 = {LN_2:.4f} where policy and reference are the same"


def uses_plain_dpo_loss(config: DPOConfig) -> bool:
    """Whether the loss is that of `modeling.dpo_loss`; other losses have other values."""
    return list_weights(config) == [("sigmoid", 1.0)] and not has_variant(config)


def includes_plain_sigmoid(config: DPOConfig) -> bool:
    """Whether the loss, or one of those that are added, is that of `modeling.dpo_loss`."""
    return "sigmoid" in config.loss_type and not has_variant(config)


def list_weights(config: DPOConfig) -> list[tuple[str, float]]:
    """Each loss type and its weight."""
    return list(zip(config.loss_type, config.loss_weights or [1.0] * len(config.loss_type), strict=True))


def has_variant(config: DPOConfig) -> bool:
    """Whether the config changes what a loss type computes."""
    return config.use_weighting or config.ld_alpha is not None or config.f_divergence_type != "reverse_kl"


def list_titles(config: DPOConfig) -> dict[str, str]:
    """`{metric: title}` of the loss and, where several losses are added, of each of them."""
    weights = list_weights(config)
    if uses_plain_dpo_loss(config):
        return {"initial_loss": f"{TITLE} ({KNOWN_VALUE})"}
    titles = {"initial_loss": f"{TITLE}: {' + '.join(f'{weight:g} × {name}' for name, weight in weights)}"}
    if len(weights) == 1:
        return titles
    for name, _ in weights:
        is_known = name == "sigmoid" and includes_plain_sigmoid(config)
        titles[LOSS_PARTS + name] = f"{TITLE}: {name} alone" + (f" ({KNOWN_VALUE})" if is_known else "")
    return titles
