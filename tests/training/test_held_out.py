"""Held-out metrics are means over pairs, or over tokens, whatever the batches."""

import itertools

import pytest
import torch
from test_sft import build, in_fp32
from test_train_dpo import set_up, shift

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.dialogue_tokenization import IGNORED_LABEL
from response_generator.modeling.dpo_loss import dpo_loss, reward_margins
from response_generator.training import dpo_checks, sft_checks
from response_generator.training.held_out import HeldOutBatches

TIMES = ("runtime", "per_second", "preparation_time")


def evaluate(trainer, rows, batch: int) -> dict[str, float]:
    trainer.eval_dataset = rows
    trainer.args.per_device_eval_batch_size = batch
    return {name: value for name, value in trainer.evaluate().items() if not name.endswith(TIMES)}


@pytest.mark.parametrize("dpo", [{}, {"train_sampling_strategy": "group_by_length"}])
def test_pairs_count_alike_also_in_a_smaller_last_batch(tiny, tmp_path, dpo):
    """Batches of 4 and 1: the mean of both batches would count the fifth pair four times."""
    values = tiny.dpo(tmp_path / "run")
    values["from_pretrained"] |= {"dtype": "float32"}
    arguments = validate_arguments(DPOArguments, values, "args.json")
    trainer, _, _ = set_up(arguments, bf16=False, **dpo)
    shift(trainer.model, "default", 0.05)
    pairs = trainer.train_dataset.select(range(5))
    policy, ref = dpo_checks.compute_pair_logps(trainer, list(pairs))  # without TRL
    rewards = trainer.beta * (policy - ref)
    expected = {
        "eval_loss": dpo_loss(reward_margins(*policy.T, *ref.T, beta=trainer.beta)),
        "eval_rewards/chosen": rewards[:, 0],
        "eval_rewards/rejected": rewards[:, 1],
        "eval_rewards/margins": rewards[:, 0] - rewards[:, 1],
        "eval_rewards/accuracies": (rewards[:, 0] > rewards[:, 1]).float(),
        "eval_logps/chosen": policy[:, 0],
        "eval_logps/rejected": policy[:, 1],
    }
    found = evaluate(trainer, pairs, batch=4)
    for name, of_pairs in expected.items():
        assert found[name] == pytest.approx(of_pairs.mean().item(), abs=1e-3), name
        means = torch.stack([of_pairs[:4].mean(), of_pairs[4]])
        if name != "eval_rewards/accuracies":
            assert abs(means.mean() - of_pairs.mean()) > 2e-3, name  # the batches do differ
    # In one batch, TRL's own means, also over tokens.
    assert found == pytest.approx(evaluate(trainer, pairs, batch=8), abs=1e-3)
    assert {"eval_entropy", "eval_mean_token_accuracy", "eval_logits/chosen", "eval_logits/rejected"} < set(found)


def test_tokens_of_dialogues_count_alike(tiny, tmp_path):
    trainer, prepared = build(tiny, tmp_path / "run", sft={"bf16": False}, **in_fp32(tiny))
    trainer.train_dataset = trainer.train_dataset.select(range(5))
    dialogues = trainer.train_dataset
    found = evaluate(trainer, dialogues, batch=4)
    losses = [sft_loss(trainer, dialogues.select([number])) for number in range(5)]
    tokens = [sum(label != IGNORED_LABEL for label in row["labels"]) for row in prepared.train.rows[:5]]
    mean = sum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)
    assert found["eval_loss"] == pytest.approx(mean, abs=1e-4)
    assert found == pytest.approx(evaluate(trainer, dialogues, batch=8), abs=1e-4)


def sft_loss(trainer, dialogues) -> float:
    """As the check before the first step computes it."""
    trainer.train_dataset = dialogues
    return sft_checks.check_start(trainer)["initial_loss"]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 4])
def test_each_row_counts_once_and_no_process_waits(size, processes):
    for rows in range(1, 30):
        batches = [HeldOutBatches(list(range(rows)), size, process, processes) for process in range(processes)]
        steps = batches[0].steps
        assert sorted(itertools.chain(*itertools.chain(*steps))) == list(range(rows))
        taken = list(zip(*batches, strict=True))  # as many batches for each process
        for step, of_processes in zip(steps, taken, strict=True):
            assert all(0 < len(batch) <= size for batch in step)
            assert list(of_processes) == (step if len(step) == processes else step * processes)
            assert len({len(batch) for batch in of_processes}) == 1  # TRL averages over the processes
