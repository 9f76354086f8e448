"""Which layout a run trains in: the one with shared prompts only where it computes what TRL's does."""

import pytest
import torch
from conftest import read_json
from script_runs import run_here
from test_train_dpo import set_up
from tiny_models import write_tiny_adapter
from training_sessions import assert_same, log, session

import fine_tune_dpo
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import RunError
from response_generator.training import run_training
from response_generator.training.layout import batch_layout, layout_speed, shared_prefix
from response_generator.training.layout.batch_layout import SHARED_PREFIX_LAYOUT, TRL_LAYOUT, choose_layout
from response_generator.training.layout.shared_prefix import SharedPrefixCollator

ASKED, AUTO = {"shared_prefix": True}, {"shared_prefix": "auto"}


@pytest.fixture
def trainer(tiny, tmp_path):
    return set_up(validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run"), "args.json"))[0]


def test_the_layout_that_is_asked_for(precision, trainer, capsys):
    assert trainer.args.bf16 is (precision == "bfloat16")
    plain = trainer.data_collator
    assert choose_layout(trainer, {"shared_prefix": False}) == TRL_LAYOUT
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


def pretend(monkeypatch, **seconds: list[float]) -> list[tuple[str, int]]:
    """Lets the passes take these seconds, in turn, or raises an error that stands there. Returns what is timed: layout
    and number of pairs."""
    timed = []
    time_passes = layout_speed.time_passes

    def take(trainer, collator, rows, with_reference):
        name = "shared" if isinstance(collator, SharedPrefixCollator) else "plain"
        timed.append((name, len(rows)))
        time_passes(trainer, collator, rows, with_reference)
        taken = seconds[name][len([each for each in timed if each[0] == name]) - 1]
        if isinstance(taken, Exception):
            raise taken
        return taken

    monkeypatch.setattr(layout_speed, "time_passes", take)
    return timed


@pytest.mark.parametrize(
    ("plain", "shared", "layout", "figures"),
    [
        # Of 8 pairs in two batches. The first round of each batch counts only where it is the faster one.
        ([9, 9, 1, 1], [9, 9, 2, 3], TRL_LAYOUT, "TRL 4.0 pairs/s, shared prefix 1.6 pairs/s"),
        ([1, 1, 2, 2], [9, 0.5, 0.5, 9], SHARED_PREFIX_LAYOUT, "TRL 4.0 pairs/s, shared prefix 8.0 pairs/s"),
        (
            [1, torch.OutOfMemoryError("16 GB")],
            [4, 4, 4, 4],
            SHARED_PREFIX_LAYOUT,
            "TRL is out of memory, shared prefix 1.0 pairs/s",
        ),
        (
            [1, 1, 1, 1],
            [RuntimeError("DefaultCPUAllocator: can't allocate memory")],
            TRL_LAYOUT,
            "TRL 4.0 pairs/s, shared prefix is out of memory",
        ),
    ],
)
def test_auto_takes_the_faster_layout_and_says_both_speeds(
    trainer, monkeypatch, capsys, plain, shared, layout, figures
):
    timed = pretend(monkeypatch, plain=plain, shared=shared)
    assert choose_layout(trainer, AUTO) == choose_layout(trainer, {}, layout) == layout
    assert isinstance(trainer.data_collator, SharedPrefixCollator) is (layout == SHARED_PREFIX_LAYOUT)
    assert capsys.readouterr().out.splitlines() == [
        f"shared_prefix: auto: {figures}; training in the layout {layout}",
        f"shared_prefix: the layout of the earlier start is kept: {layout}",  # {} is "auto" too
    ]
    assert timed[:2] == [("plain", 4), ("shared", 4)]  # in turn
    assert len(timed) == len(plain) + len(shared)


@pytest.mark.parametrize("layout", [TRL_LAYOUT, SHARED_PREFIX_LAYOUT])
def test_another_process_times_nothing_and_takes_the_main_processs_choice(trainer, monkeypatch, capsys, layout):
    timed = pretend(monkeypatch)
    monkeypatch.setattr(trainer, "is_world_process_zero", lambda: False)
    monkeypatch.setattr(batch_layout, "broadcast_object_list", lambda choice: choice.__setitem__(0, layout))
    assert choose_layout(trainer, AUTO) == layout
    assert isinstance(trainer.data_collator, SharedPrefixCollator) is (layout == SHARED_PREFIX_LAYOUT)
    assert timed == [] and capsys.readouterr().out == ""


def test_a_resumed_run_keeps_the_layout_that_was_chosen_before_the_first_step(tiny, tmp_path, monkeypatch, capsys):
    def interrupt(trainer, rows):
        raise KeyboardInterrupt("before the first step")

    def measure_again(*_):
        raise AssertionError("the layouts are timed again")

    values = tiny.dpo(tmp_path / "run")
    values["dpo"] |= AUTO | {"max_steps": 1}
    with monkeypatch.context() as patch:
        patch.setattr(layout_speed, "measure_speeds", lambda *_: {TRL_LAYOUT: 1.0, SHARED_PREFIX_LAYOUT: 2.0})
        patch.setattr(run_training, "train", interrupt)
        assert run_here(fine_tune_dpo.main, values, tmp_path) != 0
    assert read_json(tmp_path / "run" / "environment.json")["batch_layout"] == SHARED_PREFIX_LAYOUT
    monkeypatch.setattr(layout_speed, "measure_speeds", measure_again)
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    assert "shared_prefix: the layout of the earlier start is kept: shared prefix" in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "environment.json")["batch_layout"] == SHARED_PREFIX_LAYOUT


def test_memory_for_neither_layout_is_an_error(trainer, monkeypatch):
    pretend(monkeypatch, plain=[torch.OutOfMemoryError()], shared=[torch.OutOfMemoryError()])
    with pytest.raises(RunError, match="out of memory in both layouts of a batch; lower dpo.per_device_train_batch"):
        choose_layout(trainer, AUTO)


def test_another_error_is_not_hidden(trainer, monkeypatch):
    pretend(monkeypatch, plain=[RuntimeError("a broken kernel")], shared=[])
    with pytest.raises(RuntimeError, match="a broken kernel"):
        choose_layout(trainer, AUTO)


def test_auto_does_not_time_what_cannot_be_used(trainer, monkeypatch, capsys):
    timed = pretend(monkeypatch)
    monkeypatch.setattr(shared_prefix, "build_mask", attend_to_all_earlier_tokens)
    assert choose_layout(trainer, AUTO) == TRL_LAYOUT
    assert "shared_prefix: log-probabilities of replies differ" in capsys.readouterr().out
    assert timed == []


@pytest.mark.parametrize("known", [False, True])
def test_the_reference_is_timed_only_where_a_step_computes_it(trainer, monkeypatch, known):
    computed = []
    monkeypatch.setattr(trainer, "compute_ref_log_probs", lambda model, batch: computed.append(True))
    choose_layout(trainer, AUTO | {"precompute_ref_log_probs": known})
    assert bool(computed) is not known


def test_batches_of_several_lengths_are_timed(trainer):
    trainer.args.per_device_train_batch_size = 1
    trainer.args.train_sampling_strategy = "group_by_length"
    lengths = trainer.train_dataset["length"][:]
    timed = [row["length"] for (row,) in layout_speed.choose_batches(trainer)]
    assert len(timed) == layout_speed.NUM_TIMED_BATCHES
    assert max(lengths) not in timed and len(set(timed)) > 1


@pytest.mark.parametrize("layout", [TRL_LAYOUT, SHARED_PREFIX_LAYOUT])
@pytest.mark.parametrize("dpo", [{}, {"gradient_checkpointing": True, "precompute_ref_log_probs": True}])
def test_timing_leaves_no_trace(tiny, tmp_path, monkeypatch, dpo, layout):
    """With dropout, so that a random number more or less would show."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_tiny_adapter(tiny.folder / "base", tmp_path / "dropping", lora_dropout=0.3)
    values = {"adapter": str(tmp_path / "dropping"), "disable_dropout": False, "max_steps": 2, **dpo}
    monkeypatch.setattr(batch_layout, "choose_faster", lambda speeds: (layout, f"{min(speeds.values()) > 0}"))
    by_hand, _ = session(tiny, tmp_path / "by_hand", shared_prefix=layout == SHARED_PREFIX_LAYOUT, **values)
    timed, _ = session(tiny, tmp_path / "timed", shared_prefix="auto", **values)
    assert_same(timed, by_hand)
    assert log(tmp_path / "timed") == log(tmp_path / "by_hand")
