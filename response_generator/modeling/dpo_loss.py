"""The DPO loss and its reward margin (Rafailov et al. 2023, arXiv 2305.18290).

Training uses the loss of TRL. This implementation checks it before the first step, and computes the margins of an
evaluation.
"""

import torch

Logps = "torch.Tensor | np.ndarray | float"  # of whole completions, in nats


def reward_margins(chosen: Logps, rejected: Logps, ref_chosen: Logps, ref_rejected: Logps, beta: float) -> Logps:
    """Computes the implicit reward of `chosen` minus that of `rejected` (section 4 of the paper).

    r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x))
    margin = r(x, chosen) - r(x, rejected)

    Args:
        chosen, rejected: log-probabilities of the completions under the policy pi, shape (pairs,), in nats.
        ref_chosen, ref_rejected: the same under the frozen reference pi_ref.

    Returns:
        The margins, shape (pairs,).
    """
    return beta * ((chosen - rejected) - (ref_chosen - ref_rejected))


def dpo_loss(margins: torch.Tensor) -> torch.Tensor:
    """Computes -log sigmoid(margin) for each pair (equation 7 of the paper). It is ln 2 where the policy equals the
    reference."""
    return -torch.nn.functional.logsigmoid(margins)
