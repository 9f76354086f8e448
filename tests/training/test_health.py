"""Signs of a run that goes wrong: told with their cause, once, and not for runs that are sound."""

import pytest
from conftest import read_lines

from response_generator.training.monitoring import dpo_health, health


def line(step: int, margin=0.1, chosen=0.0, logps=-50.0, accuracy=0.8) -> dict:
    return {
        "step": step,
        "rewards/margins": margin,
        "rewards/chosen": chosen,
        "logps/chosen": logps,
        "rewards/accuracies": accuracy,
    }


def test_margins_that_explode_at_once():
    assert "already 61 nats" in dpo_health.check_margin_explosion([line(1), line(4, margin=6.1)], beta=0.1)
    assert "reference is probably not" in dpo_health.check_margin_explosion([line(4, margin=-6.1)], beta=0.1)
    assert dpo_health.check_margin_explosion([line(4, margin=6.1)], beta=0.5) is None  # 12 nats
    assert dpo_health.check_margin_explosion([line(11, margin=6.1)], beta=0.1) is None  # learned, by then


@pytest.mark.parametrize(
    ("change", "logps", "told"),
    # reference = logps - change; it has fallen when change < -max(10, half of the reference's)
    [(-30.0, -80.0, True), (-24.0, -74.0, False), (-9.0, -15.0, False), (-11.0, -20.0, True), (20.0, -30.0, False)],
)
def test_chosen_replies_that_become_unlikely(change, logps, told):
    log = [line(step, chosen=0.1 * change, logps=logps) for step in range(1, 6)]
    words = dpo_health.check_likelihood_displacement(log, beta=0.1)
    assert (words is not None) is told
    assert not told or f"from {logps - change:.0f} to {logps:.0f} nats" in words
    assert dpo_health.check_likelihood_displacement(log[:4], beta=0.1) is None


def test_accuracy_stuck_at_chance():
    log = [line(1, accuracy=0.0)] + [line(step, accuracy=0.5) for step in range(2, 27)]
    words = dpo_health.check_no_learning(log, pairs_each_step=8, learning_rate=1e-7)
    assert "the reward accuracy is 50%" in words and "learning_rate (1e-07)" in words
    assert dpo_health.check_no_learning(log[:25], 8, 1e-7) is None  # 24 * 8 = 192 pairs are too few to tell
    assert dpo_health.check_no_learning([line(step, accuracy=0.56) for step in range(2, 27)], 8, 1e-7) is None
    assert dpo_health.check_no_learning([line(step, accuracy=0.3) for step in range(2, 27)], 8, 1e-7)  # swapped columns


class State:
    is_world_process_zero = True

    def __init__(self, log):
        self.log_history = log
        self.global_step = log[-1]["step"]


class Arguments:
    beta = 0.1
    learning_rate = 1e-4
    per_device_train_batch_size, gradient_accumulation_steps, world_size = 8, 1, 1


def test_each_warning_is_printed_and_written_once_and_a_resumed_run_keeps_it(capsys, tmp_path):
    file = tmp_path / "warnings.jsonl"
    watch = health.TrainingHealthCallback(dpo_health.find_dpo_warnings, file)
    log = [line(2, margin=9.0)]
    watch.on_log(Arguments, State(log), None)
    watch.on_log(Arguments, State([*log, line(3, margin=9.5)]), None)
    resumed = health.TrainingHealthCallback(dpo_health.find_dpo_warnings, file)
    resumed.on_train_begin(Arguments, State(log), None)
    resumed.on_log(Arguments, State([*log, line(3, margin=9.5)]), None)
    assert capsys.readouterr().err.count("warning: step 2: the reward margin is already 90 nats") == 1
    (row,) = read_lines(file)
    assert (row["step"], row["check"]) == (2, "margins")
    # Resumed from a checkpoint before the warning, the run takes its step again.
    resumed.on_train_begin(Arguments, State([line(1)]), None)
    assert resumed.found == set() and read_lines(file) == []
    watch.on_log(Arguments, State([{"step": 4, "eval_loss": 1.0}]), None)
