"""Packed rows with shared prompts: the same loss, metrics and gradients as TRL's own layout, in float32."""

import math

import pytest
import torch
from test_train_dpo import set_up, shift
from training_sessions import session

from response_generator.config.library.training_keys import LOSS_TYPES
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.training.layout.shared_prefix import (
    MAX_ROW_TOKENS,
    SharedPrefixCollator,
    build_mask,
    pack,
    share_prompts,
)

TOLERANCE = 1e-4


@pytest.fixture
def arguments(tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run")
    values["from_pretrained"] |= {"dtype": "float32"}
    return validate_arguments(DPOArguments, values, "args.json")


def make_pair(prompt: int, chosen: int, rejected: int, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randint(10, 590, (count,), generator=generator).tolist()  # noqa: E731
    return {"prompt_ids": draw(prompt), "chosen_ids": draw(chosen), "rejected_ids": draw(rejected)}


SHAPES = [(40, 12, 25), (7, 30, 1), (55, 3, 9), (1, 20, 20), (23, 17, 6), (61, 2, 33), (12, 1, 1), (48, 21, 18)]
PAIRS = [make_pair(*shape, seed) for seed, shape in enumerate(SHAPES)]


def measure(trainer, collator, backward: bool = True) -> tuple[float, dict, torch.Tensor | None]:
    """Loss, logged metrics and the gradients of the policy for PAIRS."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer._metrics["train"].clear()
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(collator(PAIRS)))
    gradient = None
    if backward:
        loss.backward()
        gradient = torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.requires_grad])
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items() if name != "num_tokens"}
    return loss.item(), metrics, gradient


def prepared(arguments, max_row_tokens=MAX_ROW_TOKENS, **dpo):
    """A trainer whose policy differs from its reference, and both collators."""
    trainer, _, _ = set_up(arguments, loss_type=["sigmoid"], bf16=False, **dpo)
    shift(trainer.model, "default", 0.05)
    share_prompts(trainer.model)
    return trainer, trainer.data_collator, SharedPrefixCollator(trainer.processing_class.pad_token_id, max_row_tokens)


def assert_same(found, expected) -> None:
    assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert found[1][name] == pytest.approx(value, abs=TOLERANCE * max(1, abs(value))), name
    if expected[2] is not None:
        assert (found[2] - expected[2]).abs().max() <= TOLERANCE * max(1, expected[2].abs().max())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("max_row_tokens", [100, None])
def test_loss_metrics_and_gradients_are_those_of_trl(arguments, checkpointing, max_row_tokens):
    trainer, plain, packed = prepared(arguments, max_row_tokens, gradient_checkpointing=checkpointing)
    expected = measure(trainer, plain)
    assert expected[0] != pytest.approx(math.log(2), abs=1e-3)  # policy and reference differ
    assert_same(measure(trainer, packed), expected)


@pytest.mark.parametrize("loss", LOSS_TYPES)
def test_every_loss_is_that_of_trl(arguments, loss):
    trainer, plain, packed = prepared(arguments, label_smoothing=0.1)
    trainer.loss_types = [loss]
    assert_same(measure(trainer, packed, backward=False), measure(trainer, plain, backward=False))


def test_reference_log_probabilities_are_those_of_trl(arguments):
    trainer, plain, packed = prepared(arguments)
    expected, found = (
        torch.stack(trainer.compute_ref_log_probs(trainer.model, trainer._prepare_inputs(collator(PAIRS))))
        for collator in (plain, packed)
    )
    assert torch.allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_a_token_attends_to_its_prompt_and_its_own_reply():
    pairs = [make_pair(2, 3, 2, 0), make_pair(1, 2, 2, 1)]
    (row,), places = pack(pairs, None)
    # The last token of a reply is left out: prompt 2, chosen 2, rejected 1, then prompt 1, chosen 1, rejected 1.
    assert row.pairs == [0, 0, 0, 0, 0, 1, 1, 1]
    assert row.parts == [0, 0, 1, 1, 2, 0, 1, 2]
    assert row.positions == [0, 1, 2, 3, 2, 0, 1, 1]
    assert places == [(0, {"chosen": [1, 2, 3], "rejected": [1, 4]}), (0, {"chosen": [5, 6], "rejected": [5, 7]})]
    mask = build_mask(torch.tensor([row.pairs]), torch.tensor([row.parts]))[0, 0]
    seen = [mask[token].nonzero()[:, 0].tolist() for token in range(8)]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [5], [5, 6], [5, 7]]


def test_rows_are_filled_up_to_their_limit():
    rows, places = pack([make_pair(4, 3, 2, 0), make_pair(3, 3, 3, 1), make_pair(20, 2, 2, 2)], 14)
    assert [len(row.ids) for row in rows] == [14, 22]  # 7 + 7, then a pair that is longer than a row
    assert [row for row, _ in places] == [0, 0, 1]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 5, 5], [15]),
        ([10, 6, 5, 5], [16, 10]),  # pairs keep their order
        ([7, 7, 7, 7, 1, 1], [14, 16]),
        ([4, 4, 4, 4, 4, 4], [12, 12]),  # not 20 and 4
        ([30, 3, 3], [30, 6]),
    ],
)
def test_rows_are_about_equally_long(counts, expected):
    rows, _ = pack([make_pair(count, 1, 1, seed) for seed, count in enumerate(counts)], 20)
    assert [len(row.ids) for row in rows] == expected


def curve(tiny, run, **dpo) -> list[float]:
    """The losses of a run of 20 steps with gradient accumulation, in float32."""
    steps = {"max_steps": 20, "num_train_epochs": 10, "gradient_accumulation_steps": 2}
    trainer, _ = session(
        tiny, run, dtype="float32", bf16=False, per_device_train_batch_size=2, learning_rate=1e-3, **steps | dpo
    )
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("precomputed", [False, True])
def test_twenty_steps_follow_the_curve_of_trl(tiny, tmp_path, monkeypatch, precomputed):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = curve(tiny, tmp_path / "plain")
    assert len(expected) == 20 and max(expected) - min(expected) > 0.01
    found = curve(tiny, tmp_path / "packed", shared_prefix=True, precompute_ref_log_probs=precomputed)
    assert found == pytest.approx(expected, abs=1e-3)
