"""The DPO loss and its reward margin (Rafailov et al. 2023, arXiv 2305.18290), written out.

Training uses TRL's implementation. This one checks it before the first step, and measures adapters in an evaluation.
"""

import torch

Logps = "torch.Tensor | np.ndarray | float"  # of whole completions, in nats


def reward_margins(chosen: Logps, rejected: Logps, ref_chosen: Logps, ref_rejected: Logps, beta: float) -> Logps:
    """How much more the implicit reward prefers `chosen` (section 4 of the paper), one number a pair.

    r(x, y) = beta * (log pi(y | x) - log pi_ref(y | x))
    margin = r(x, chosen) - r(x, rejected)

    Args:
        chosen, rejected: log-probabilities of the completions under the policy pi, (pairs,).
        ref_chosen, ref_rejected: the same under the frozen reference pi_ref.
    """
    return beta * ((chosen - rejected) - (ref_chosen - ref_rejected))


def dpo_loss(margins: torch.Tensor) -> torch.Tensor:
    """Equation 7: -log sigmoid(margin), one number a pair; ln 2 where policy and reference are the same."""
    return -torch.nn.functional.logsigmoid(margins)
