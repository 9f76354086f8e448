"""Which layout a run trains in: the one with shared prompts only where it computes what TRL's does."""

import pytest
import torch
from test_train_dpo import set_up

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.training import batch_layout, shared_prefix
from response_generator.training.batch_layout import SHARED_PREFIX_LAYOUT, TRL_LAYOUT, choose_layout
from response_generator.training.shared_prefix import SharedPrefixCollator

ASKED = {"shared_prefix": True}


@pytest.fixture
def trainer(tiny, tmp_path):
    return set_up(validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run"), "args.json"))[0]


def test_the_layout_that_is_asked_for(trainer, capsys):
    plain = trainer.data_collator
    assert choose_layout(trainer, {}) == TRL_LAYOUT
    assert trainer.data_collator is plain
    assert choose_layout(trainer, ASKED) == SHARED_PREFIX_LAYOUT
    assert isinstance(trainer.data_collator, SharedPrefixCollator)
    assert "shared_prefix" not in capsys.readouterr().out


def attend_to_all_earlier_tokens(pairs: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(pairs), 1, pairs.shape[1], pairs.shape[1], dtype=torch.bool).tril()


def test_a_wrong_mask_is_noticed(trainer, monkeypatch, capsys):
    plain = trainer.data_collator
    monkeypatch.setattr(shared_prefix, "build_mask", attend_to_all_earlier_tokens)
    assert choose_layout(trainer, ASKED) == TRL_LAYOUT
    assert trainer.data_collator is plain
    said = capsys.readouterr().out
    assert "shared_prefix: log-probabilities of replies differ from those in TRL's layout by" in said
    assert "training in TRL's layout, which computes each prompt twice" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sliding_window": 64}, "the model has layers that do not attend to all earlier tokens"),
        ({"_attn_implementation": "flash_attention_2"}, "takes no mask; set from_pretrained.attn_implementation to"),
    ],
)
def test_a_model_that_takes_no_mask_is_told(trainer, monkeypatch, capsys, change, words):
    config = trainer.model.get_base_model().config
    for name, value in change.items():
        monkeypatch.setattr(config, name, value, raising=False)
    assert choose_layout(trainer, ASKED) == TRL_LAYOUT
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("packed_gap", "alone_gap", "layout"),
    [
        (0.015, 0.0, SHARED_PREFIX_LAYOUT),
        (0.05, 0.001, TRL_LAYOUT),
        (0.05, 0.02, SHARED_PREFIX_LAYOUT),  # the model itself rounds as badly
        (0.09, 0.02, TRL_LAYOUT),
        (float("nan"), 0.02, TRL_LAYOUT),
    ],
)
def test_rounding_that_the_model_has_anyway_is_allowed(trainer, monkeypatch, packed_gap, alone_gap, layout):
    """Gaps in nats a token, of replies that are longer than the least length that counts."""
    rows = list(trainer.train_dataset)[: batch_layout.NUM_COMPARED_PAIRS]
    tokens = [len(row[f"{side}_ids"]) for side in batch_layout.SIDES for row in rows]
    lengths = torch.tensor(tokens).clamp(min=batch_layout.MIN_COMPARED_TOKENS)

    def compute(trainer, collator, compared):
        if isinstance(collator, SharedPrefixCollator):
            return -lengths * (1 - packed_gap)
        if len(compared) == 1:
            place = next(number for number, row in enumerate(rows) if row == compared[0])
            return -lengths[[place, place + len(rows)]] * (1 - alone_gap)
        return -lengths.float()

    monkeypatch.setattr(batch_layout, "compute_reply_logps", compute)
    monkeypatch.setattr(trainer.args, "bf16", True)  # also on a processor without bfloat16
    assert choose_layout(trainer, ASKED) == layout
