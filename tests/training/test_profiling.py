"""A few real steps before the run: which rows they take, and how they count up to the whole run."""

import pytest
from script_runs import run_here
from test_train_dpo import PAIRS
from tiny_models import EMOTION_LABELS

import fine_tune_dpo
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import TokenizedPairs, tokenize_pairs
from response_generator.modeling import loading as models
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training import trainer_config
from response_generator.training.cost import device_memory, profiling
from response_generator.training.layout.batch_layout import TRL_LAYOUT


def row(tokens: int) -> dict:
    return {"prompt_ids": [1] * (tokens - 2), "chosen_ids": [1, 2], "rejected_ids": [2]}


def arguments_for(tiny, tmp_path, **dpo) -> DPOArguments:
    values = tiny.dpo(tmp_path / "run")
    values["dpo"] |= dpo
    return validate_arguments(DPOArguments, values, "args.json")


def test_the_longest_batch_comes_first_then_ordinary_ones():
    train = TokenizedPairs(rows=[row(tokens) for tokens in range(10, 30)])
    chosen = TokenizedPairs(rows=profiling.longest_then_typical_rows(train, batch=2)).lengths()["whole"]
    assert chosen[:2] == [29, 28]
    assert sorted(chosen[2:]) == [17, 18, 19, 20]  # the middle of 10 … 27


@pytest.mark.parametrize("batch", [1, 5, 7, 12, 100_000])
def test_no_row_is_taken_twice(batch):
    train = TokenizedPairs(rows=[row(tokens) for tokens in range(10, 22)])
    lengths = TokenizedPairs(rows=profiling.longest_then_typical_rows(train, batch)).lengths()["whole"]
    assert len(set(lengths)) == len(lengths) == min(12, 3 * batch)
    assert lengths[0] == 21


@pytest.mark.parametrize(("free", "tried"), [(10**12, True), (10**6, False)])
def test_a_step_that_does_not_fit_is_not_tried(tiny, tmp_path, capsys, monkeypatch, free, tried):
    monkeypatch.setattr(device_memory, "get_free_bytes", lambda: free)
    values = tiny.dpo(tmp_path / "run")
    values["dpo"]["per_device_train_batch_size"] = 100_000
    assert run_here(fine_tune_dpo.main, values, tmp_path, "--dry_run") == 0
    said = capsys.readouterr().out
    assert ("measured: " in said) is tried
    assert ("does not fit into the free memory, so no step was tried" in said) is not tried
    assert "the batch size is 100000, but there are only 12 pairs: an epoch is one step" in said


def test_tokens_are_those_of_padded_batches(tiny, tmp_path):
    config = trainer_config.build_dpo_config(
        arguments_for(tiny, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    )
    # Two batches of two a step, each padded to its own longest, chosen and rejected apart; then a batch of one.
    assert profiling.count_padded_tokens([5, 7, 3, 9, 4], config, range(5)) == [2 * 2 * 7 + 2 * 2 * 9, 2 * 1 * 4]


@pytest.mark.parametrize("asked", [None, "auto"])
def test_where_the_layout_is_not_known_the_larger_memory_is_estimated(tiny, tmp_path, asked):
    def estimate(train, shared_prefix) -> float:
        arguments = arguments_for(tiny, tmp_path, shared_prefix=shared_prefix)
        config = trainer_config.build_dpo_config(arguments)
        found = profiling.estimate_run_memory(arguments, config, models.resolve_initial_adapter(arguments), train)
        return found.total - found.process

    rows = {
        "long prompts": {"prompt_ids": [1] * 200, "chosen_ids": [1, 2], "rejected_ids": [2, 1]},
        "long replies": {"prompt_ids": [1], "chosen_ids": [1] * 200, "rejected_ids": [2, 1]},
    }
    for row in rows.values():
        train = TokenizedPairs(rows=[row] * 12)
        assert estimate(train, asked) == max(estimate(train, False), estimate(train, True))


def test_the_whole_run_is_counted(tiny, tmp_path):
    train = TokenizedPairs(rows=[row(10)] * 12)
    # 12 pairs of 10 tokens, twice each, 2 epochs
    assert profiling.count_run_tokens(train, arguments_for(tiny, tmp_path), TRL_LAYOUT) == 12 * 2 * 10 * 2
    assert profiling.count_run_tokens(train, arguments_for(tiny, tmp_path, max_steps=2), TRL_LAYOUT) == 8 * 2 * 10


@pytest.mark.parametrize("dpo", [{}, {"precompute_ref_log_probs": True, "gradient_accumulation_steps": 2}])
def test_real_steps_are_timed_and_nothing_is_left(tiny, tmp_path, dpo):
    arguments = arguments_for(tiny, tmp_path, **dpo)
    start = models.resolve_initial_adapter(arguments)
    tokenizer = load_tokenizer(arguments, start)
    train = tokenize_pairs(PAIRS, ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS), 256)
    told = profiling.profile_steps(arguments, tokenizer, start, train)
    assert 0 < told.step_seconds <= told.train_seconds
    assert told.peak_memory_gb > 0.1
    assert not (tmp_path / "run").exists()


def test_a_hub_model_that_is_not_here_is_not_fetched(tiny, tmp_path):
    arguments = arguments_for(tiny, tmp_path)
    assert profiling.is_base_model_cached(arguments)
    assert not profiling.is_base_model_cached(arguments.model_copy(update={"base_model": "nobody/never-downloaded"}))
