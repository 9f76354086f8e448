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
from response_generator.training import sanity_checks, trainer_setup


@pytest.fixture
def arguments(tiny, tmp_path):
    return validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run"), "args.json")


def test_the_start_is_ln_2_and_a_wrong_reference_stops_the_run(arguments):
    trainer, source, _ = set_up(arguments)
    assert sanity_checks.check_start(trainer, source, None) == {
        "initial_loss": pytest.approx(math.log(2), abs=1e-6),
        "initial_max_logp_gap": pytest.approx(0, abs=1e-4),
    }
    shift(trainer.model, "default", 0.05)
    with pytest.raises(RunError, match="the reference is not the adapter that training starts from"):
        sanity_checks.check_start(trainer, source, None)
    shift(trainer.model, "ref", 1e-6)
    with pytest.raises(RunError, match="the reference is not .*adapter "):
        sanity_checks.check_start(trainer, source, None)


def test_the_written_out_loss_is_trls(arguments, monkeypatch):
    loading_settings = {**arguments.from_pretrained, "dtype": "float32"}
    trainer, source, _ = set_up(arguments.model_copy(update={"from_pretrained": loading_settings}), bf16=False)
    shift(trainer.model, "default", 0.05)
    rows = list(trainer.train_dataset)
    policy, ref = sanity_checks.compute_pair_logps(trainer, rows)
    losses = dpo_loss(reward_margins(*policy.T, *ref.T, beta=trainer.beta))
    assert abs(losses.mean().item() - math.log(2)) > 1e-3
    assert losses.mean().item() == pytest.approx(sanity_checks.compute_trl_loss(trainer, rows), abs=1e-5)
    shift(trainer.model, "default", -0.05)
    monkeypatch.setattr(sanity_checks, "compute_trl_loss", lambda trainer, rows: 2.0)
    with pytest.raises(RunError, match="TRL computes a loss of 2.0000; the DPO loss is 0.6931"):
        sanity_checks.check_start(trainer, source, None)


def test_loss_is_trls_own_on_its_own_tokens(arguments, tmp_path):
    """TRL tokenizes the rendered strings itself; ours are tokenized before. Policy and reference differ, so that the
    loss depends on every log-probability. In float32, as bfloat16 would round such a small difference away."""
    from datasets import Dataset

    loading_settings = {**arguments.from_pretrained, "dtype": "float32"}
    arguments = arguments.model_copy(update={"from_pretrained": loading_settings})
    ours, _, formatter = set_up(arguments)
    shift(ours.model, "default", 0.01)
    strings = []
    for pair in PAIRS:
        target = pair.chosen["emotion"]
        chosen, rejected = (formatter.completion(pair.prompt, target, reply) for reply in (pair.chosen, pair.rejected))
        strings.append({"prompt": formatter.prompt(pair.prompt, target), "chosen": chosen, "rejected": rejected})
    source = loading.find_adapter("adapter", arguments.adapter, arguments)
    config = DPOConfig(output_dir=str(tmp_path), max_length=256, use_cpu=True, report_to=[])
    policy = loading.load_policy(arguments, source)
    loaded = trainer_setup.copy_trained_weights(policy)
    theirs = DPOTrainer(
        model=policy,
        args=config,
        train_dataset=Dataset.from_list(strings),
        processing_class=formatter.tokenizer,
    )
    trainer_setup.restore_fp32_adapters(theirs.model, loaded)
    shift(theirs.model, "default", 0.01)
    assert abs(loss_of(ours) - math.log(2)) > 1e-3
    assert loss_of(ours) == pytest.approx(loss_of(theirs), abs=1e-6)


def test_a_reference_from_other_batches_may_differ_as_much_as_the_policy_does_alone(arguments, monkeypatch):
    """A precomputed reference comes from other batches, and some models round badly in bfloat16."""
    trainer, source, _ = set_up(arguments)
    rounding = 0.6

    def compute(trainer, rows):
        policy = torch.full((len(rows), 2), -20.0 + (rounding if len(rows) == 1 else 0.0))
        return policy, torch.full((len(rows), 2), -22.0)

    monkeypatch.setattr(sanity_checks, "compute_pair_logps", compute)
    monkeypatch.setattr(sanity_checks, "uses_plain_dpo_loss", lambda trainer: False)
    assert sanity_checks.check_start(trainer, source, None)["initial_max_logp_gap"] == pytest.approx(2)
    rounding = 0.3
    with pytest.raises(RunError, match=r"policy and reference differ by 2\.000 nats"):
        sanity_checks.check_start(trainer, source, None)
