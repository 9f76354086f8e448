"""The written-out DPO loss by hand; tests/training/test_train_dpo.py compares it with TRL's."""

import math

import numpy as np
import pytest
import torch

from response_generator.modeling.dpo_loss import dpo_loss, reward_margins


def test_the_margin_by_hand():
    # The policy prefers chosen by 2 nats, the reference by 0.5; the second pair is the other way round.
    logps = [np.array(values) for values in ([-10.0, -12.0], [-12.0, -10.0], [-11.0, -11.5], [-11.5, -11.0])]
    assert reward_margins(*logps, beta=0.1) == pytest.approx([0.1 * (2 - 0.5), -0.1 * (2 - 0.5)])


def test_the_loss_by_hand():
    assert dpo_loss(torch.tensor([0.0])).item() == pytest.approx(math.log(2))
    assert dpo_loss(torch.tensor([0.15])).item() == pytest.approx(math.log(1 + math.exp(-0.15)))
