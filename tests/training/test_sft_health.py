"""Signs of an SFT run that goes wrong: told with their cause, and not for runs that are sound."""

from conftest import read_lines
from script_runs import run_here
from tiny_models import DEMO_DATA
from transformers import TrainerState

from response_generator import sft
from response_generator.training.monitoring import sft_health


def lines(*losses: float, every: int = 1) -> list[dict]:
    return [{"step": every * number, "loss": loss} for number, loss in enumerate(losses, 1)]


def evaluations(losses: dict[int, float]) -> list[dict]:
    return [{"step": step, "eval_loss": loss} for step, loss in losses.items()]


def test_a_loss_that_does_not_fall():
    # 10 lines of 10 steps with 8 dialogues each: 800 dialogues.
    flat = lines(*[2.5] * 5, *[2.48] * 5, every=10)
    words = sft_health.check_no_learning(flat, dialogues_each_step=8, max_steps=200, learning_rate=1e-8)
    assert words.startswith("step 100: the training loss does not fall: 2.500 in the first half")
    assert "2.480 in the second" in words and "sft.learning_rate (1e-08)" in words
    assert sft_health.check_no_learning(flat, 8, max_steps=201, learning_rate=1e-8) is None  # less than half of it
    assert sft_health.check_no_learning(flat, 4, max_steps=100, learning_rate=1e-8) is None  # 400 dialogues
    falling = lines(*[2.5] * 5, *[2.47] * 5, every=10)  # by 1.2 %
    assert sft_health.check_no_learning(falling, 8, max_steps=100, learning_rate=1e-8) is None
    assert sft_health.check_no_learning(lines(2.5, every=100), 8, max_steps=100, learning_rate=1e-8) is None


def test_a_loss_that_rises_by_far():
    # With 50 dialogues a line the window is its least, 5 lines.
    log = lines(3.0, *[2.0] * 5, *[3.0] * 4, 4.1, every=10)
    words = sft_health.check_divergence(log, dialogues_each_step=5, learning_rate=0.1)
    assert words.startswith("step 110: the training loss has risen from 2.000 to 3.220 (means of 5 log lines)")
    assert "sft.learning_rate (0.1) is too high" in words
    assert sft_health.check_divergence(log[:-1], 5, 0.1) is None  # 2.8 on average
    # With 10 dialogues a line the window has 10 lines, 100 dialogues: 2.3 and 2.61 on average.
    assert sft_health.check_divergence(log, dialogues_each_step=1, learning_rate=0.1) is None
    assert sft_health.check_divergence([], 5, 0.1) is None


def test_a_held_out_loss_that_rises_while_the_training_loss_falls():
    log = lines(3.0, 2.6, 2.4, 2.0, 1.8, 1.4, every=10)
    held_out = evaluations({20: 2.7, 40: 2.75, 60: 2.9})
    words = sft_health.check_overfitting(log, held_out)
    assert words.startswith(
        "step 60: the held-out loss has risen from 2.700 at step 20 to 2.900, while the training loss fell from 2.800 "
        "to 1.600: the adapter overfits."
    )
    assert "sft.load_best_model_at_end" in words and "sft.early_stopping_patience" in words
    # The evaluation after training is of the last step again.
    assert sft_health.check_overfitting(log, [*held_out[:2], {"step": 40, "eval_loss": 2.75}]) is None
    assert sft_health.check_overfitting(log, evaluations({20: 2.7, 40: 2.68, 60: 2.9})) is None  # risen once
    assert sft_health.check_overfitting(log, evaluations({20: 2.7, 40: 2.71, 60: 2.72})) is None  # by less than 1 %
    assert sft_health.check_overfitting(lines(*[2.8] * 6, every=10), held_out) is None  # the training loss is the same
    assert sft_health.check_overfitting([], held_out) is None
    assert sft_health.check_overfitting(log, []) is None


class Arguments:
    learning_rate, loss_type, load_best_model_at_end = 1e-4, "nll", False
    per_device_train_batch_size, gradient_accumulation_steps, world_size = 8, 1, 1


def test_a_sound_run_has_no_warnings_and_what_keeps_the_best_adapter_is_not_recommended_again():
    sound = lines(*[3.0 - 0.05 * number for number in range(20)], every=10)
    state = TrainerState(log_history=[*sound, *evaluations({100: 2.9, 200: 2.8})], max_steps=200)
    assert set(sft_health.find_sft_warnings(state, Arguments).values()) == {None}
    state.log_history += evaluations({220: 2.9, 240: 3.0}) + [{"step": step, "loss": 1.5} for step in (220, 240)]
    assert "overfits" in sft_health.find_sft_warnings(state, Arguments)["overfitting"]
    keeps_best = type("KeepsBest", (Arguments,), {"load_best_model_at_end": True})
    assert sft_health.find_sft_warnings(state, keeps_best)["overfitting"] is None
    other_loss = type("OtherLoss", (Arguments,), {"loss_type": "dft"})
    assert sft_health.find_sft_warnings(state, other_loss) == {}


def test_a_run_that_overfits_says_so_in_the_terminal_a_file_and_the_report(tiny, tmp_path, capsys):
    """Two training dialogues, which a far too high learning rate memorizes, and held-out ones with other words."""
    values = tiny.sft(
        tmp_path / "run", eval_dataset={"path": str(DEMO_DATA / "dialogues_validation.jsonl"), "limit": 8}
    )
    values["dataset"]["limit"] = 2
    values["sft"] |= {
        "num_train_epochs": 5,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
    }
    assert run_here(sft.main, values, tmp_path) == 0
    (row,) = read_lines(tmp_path / "run" / "warnings.jsonl")
    assert row["check"] == "overfitting"
    shown = capsys.readouterr()
    assert shown.err.count(f"warning: {row['message']}") == 1 and f"warning: {row['message']}" in shown.out
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "the adapter overfits" in report and "dotted: the step of a warning" in report
