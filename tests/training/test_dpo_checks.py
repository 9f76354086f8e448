"""The checks before the first step, and the loss: ln 2, TRL's, and the one written out."""

import math

import pytest
import torch
from test_train_dpo import PAIRS, loss_of, set_up, shift
from trl import DPOConfig, DPOTrainer

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import RunError
from response_generator.modeling import loading
from response_generator.modeling.dpo_loss import dpo_loss, reward_margins
from response_generator.training import dpo_checks, dpo_loss_types, trainer_setup


@pytest.fixture
def arguments(tiny, tmp_path):
    return validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run"), "args.json")


def test_the_start_is_ln_2_and_a_wrong_reference_stops_the_run(arguments):
    trainer, source, _ = set_up(arguments)
    assert dpo_checks.check_start(trainer, source, None) == {
        "initial_loss": pytest.approx(math.log(2), abs=1e-6),
        "initial_max_logp_gap": pytest.approx(0, abs=1e-4),
    }
    shift(trainer.model, "default", 0.05)
    with pytest.raises(RunError, match="the reference is not the adapter that training starts from"):
        dpo_checks.check_start(trainer, source, None)
    shift(trainer.model, "ref", 1e-6)
    with pytest.raises(RunError, match="the reference is not .*adapter "):
        dpo_checks.check_start(trainer, source, None)


def test_of_combined_losses_each_is_reported_and_only_known_values_are_named(arguments):
    trainer, source, _ = set_up(arguments, loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.2])
    metrics = dpo_checks.check_start(trainer, source, None)
    sigmoid, sft = metrics["initial_loss/sigmoid"], metrics["initial_loss/sft"]
    assert sigmoid == pytest.approx(math.log(2), abs=1e-6)
    rows = list(trainer.train_dataset.select(range(4)))
    chosen = dpo_checks.compute_pair_logps(trainer, rows)[0][:, 0]
    tokens = torch.tensor([len(row["chosen_ids"]) for row in rows])
    assert sft == pytest.approx((-chosen / tokens).mean().item(), rel=1e-2)  # the mean of a pair's tokens
    assert metrics["initial_loss"] == pytest.approx(dpo_checks.compute_trl_loss(trainer, rows), abs=1e-5)
    assert metrics["initial_loss"] == pytest.approx(sigmoid + 0.2 * sft, abs=1e-5)
    assert trainer.loss_types == ["sigmoid", "sft"] and trainer.loss_weights == [1.0, 0.2]
    known = "ln 2 = 0.6931 where policy and reference are the same"
    assert dpo_loss_types.list_titles(trainer.args) == {
        "initial_loss": "loss before the first step: 1 × sigmoid + 0.2 × sft",
        "initial_loss/sigmoid": f"loss before the first step: sigmoid alone ({known})",
        "initial_loss/sft": "loss before the first step: sft alone",
    }


def build_config(folder, **dpo) -> DPOConfig:
    return DPOConfig(output_dir=str(folder), use_cpu=True, report_to=[], **dpo)


@pytest.mark.parametrize(
    ("dpo", "title"),
    [
        ({}, "loss before the first step (ln 2 = 0.6931 where policy and reference are the same)"),
        ({"loss_type": ["ipo"]}, "loss before the first step: 1 × ipo"),
        ({"loss_weights": [0.5]}, "loss before the first step: 0.5 × sigmoid"),
        ({"use_weighting": True}, "loss before the first step: 1 × sigmoid"),
    ],
)
def test_the_title_of_a_single_loss(dpo, title, tmp_path):
    config = build_config(tmp_path, **dpo)
    assert dpo_loss_types.list_titles(config) == {"initial_loss": title}
    assert dpo_loss_types.uses_plain_dpo_loss(config) is ("ln 2" in title)


def test_weighted_pairs_have_no_known_value(tmp_path):
    config = build_config(tmp_path, loss_type=["sigmoid", "hinge"], use_weighting=True)
    assert not any("ln 2" in title for title in dpo_loss_types.list_titles(config).values())


def test_the_written_out_loss_is_trls(arguments, monkeypatch):
    loading_settings = {**arguments.from_pretrained, "dtype": "float32"}
    trainer, source, _ = set_up(arguments.model_copy(update={"from_pretrained": loading_settings}), bf16=False)
    shift(trainer.model, "default", 0.05)
    rows = list(trainer.train_dataset)
    policy, ref = dpo_checks.compute_pair_logps(trainer, rows)
    losses = dpo_loss(reward_margins(*policy.T, *ref.T, beta=trainer.beta))
    assert abs(losses.mean().item() - math.log(2)) > 1e-3
    assert losses.mean().item() == pytest.approx(dpo_checks.compute_trl_loss(trainer, rows), abs=1e-5)
    shift(trainer.model, "default", -0.05)
    monkeypatch.setattr(dpo_checks, "compute_trl_loss", lambda trainer, rows: 2.0)
    with pytest.raises(RunError, match="TRL computes a loss of 2.0000; the DPO loss is 0.6931"):
        dpo_checks.check_start(trainer, source, None)


@pytest.mark.parametrize(
    ("dpo", "is_refused"),
    [
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}, True),
        ({"loss_weights": [0.5]}, True),
        ({"loss_type": ["sigmoid", "sft"], "use_weighting": True}, False),  # the weight of a pair has no known value
        ({"loss_type": ["ipo", "sft"]}, False),
    ],
)
def test_a_wrong_dpo_loss_is_noticed_among_several(arguments, monkeypatch, dpo, is_refused):
    trainer, source, _ = set_up(arguments, **dpo)
    dpo_checks.check_start(trainer, source, None)
    compute = dpo_checks.compute_trl_loss

    def compute_wrongly(trainer, rows):
        return 2.0 if trainer.loss_types == ["sigmoid"] else compute(trainer, rows)

    monkeypatch.setattr(dpo_checks, "compute_trl_loss", compute_wrongly)
    if is_refused:
        with pytest.raises(RunError, match="TRL computes a loss of 2.0000; the DPO loss is 0.6931"):
            dpo_checks.check_start(trainer, source, None)
    else:
        dpo_checks.check_start(trainer, source, None)


def test_loss_is_trls_own_on_its_own_tokens(arguments, tmp_path, precision):
    """TRL tokenizes the rendered strings itself; ours are tokenized before. Policy and reference differ by so much that
    bfloat16 does not round it away, so the loss depends on every log-probability."""
    from datasets import Dataset

    ours, _, formatter = set_up(arguments)
    shift(ours.model, "default", 0.05)
    strings = []
    for pair in PAIRS:
        target = pair.chosen["emotion"]
        chosen, rejected = (formatter.completion(pair.prompt, target, reply) for reply in (pair.chosen, pair.rejected))
        strings.append({"prompt": formatter.prompt(pair.prompt, target), "chosen": chosen, "rejected": rejected})
    source = loading.find_adapter("adapter", arguments.adapter, arguments)
    in_bf16 = precision == "bfloat16"
    config = DPOConfig(output_dir=str(tmp_path), max_length=256, use_cpu=True, report_to=[], bf16=in_bf16)
    policy = loading.load_policy(arguments, source)
    loaded = trainer_setup.copy_trained_weights(policy)
    theirs = DPOTrainer(
        model=policy,
        args=config,
        train_dataset=Dataset.from_list(strings),
        processing_class=formatter.tokenizer,
    )
    assert ours.args.bf16 is theirs.args.bf16 is in_bf16
    trainer_setup.restore_fp32_adapters(theirs.model, loaded)
    shift(theirs.model, "default", 0.05)
    assert abs(loss_of(ours) - math.log(2)) > 1e-3
    assert loss_of(ours) == pytest.approx(loss_of(theirs), abs=1e-6)


def test_a_reference_from_other_batches_may_differ_as_much_as_the_policy_does_alone(arguments, monkeypatch):
    """A precomputed reference comes from other batches, and some models round badly in bfloat16."""
    trainer, source, _ = set_up(arguments)
    rounding = 0.6

    def compute(trainer, rows):
        policy = torch.full((len(rows), 2), -20.0 + (rounding if len(rows) == 1 else 0.0))
        return policy, torch.full((len(rows), 2), -22.0)

    monkeypatch.setattr(dpo_checks, "compute_pair_logps", compute)
    monkeypatch.setattr(dpo_checks, "includes_plain_sigmoid", lambda config: False)
    assert dpo_checks.check_start(trainer, source, None)["initial_max_logp_gap"] == pytest.approx(2)
    rounding = 0.3
    with pytest.raises(RunError, match=r"policy and reference differ by 2\.000 nats"):
        dpo_checks.check_start(trainer, source, None)
