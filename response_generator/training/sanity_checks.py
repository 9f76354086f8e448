"""Checks before the first step and after the last: no run may look healthy while doing the wrong thing."""

import math

import torch
from peft import PeftModel

from response_generator.errors import RunError
from response_generator.modeling.adapters import AdapterFile, key_in_model
from response_generator.modeling.loading import POLICY_ADAPTER, REFERENCE_ADAPTER
from response_generator.training.dpo_trainer import ResumableDPOTrainer

AGREEMENT = 0.5  # nats a completion; a precomputed reference was summed in other batches, and bf16 differs by tenths,
AGREEMENT_A_TOKEN = 0.02  # and by more the longer it is
CHECKED_PAIRS = 4


def check_start(trainer: ResumableDPOTrainer, start: AdapterFile | None, reference: AdapterFile | None) -> dict:
    """Before the first step the reference holds its file's weights, and is the policy where no other is named.

    Returns:
        `{"start_loss", "start_gap"}`: the mean loss, and the largest difference of log-probabilities in nats.

    Raises:
        RunError: when the reference is not the adapter that it is said to be.
    """
    check_reference(trainer.model, reference or start)
    loss, gap = measured(trainer)
    if reference is None:
        rows = checked_rows(trainer)
        longest = max(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids"))
        allowed = max(AGREEMENT, AGREEMENT_A_TOKEN * longest)
        # Other losses have other values here, so the gap alone decides; nan compares false, so ask for what must hold.
        sound = gap <= allowed
        if trainer.loss_types == ["sigmoid"] and trainer.loss_weights == [1.0] and not trainer.use_weighting:
            sound = sound and abs(loss - math.log(2)) <= trainer.beta * allowed
        if not sound:
            raise RunError(
                f"before the first step policy and reference differ by {gap:.3f} nats (loss {loss:.4f}, expected "
                f"{math.log(2):.4f}): the reference is not the adapter that training starts from"
            )
    return {"start_loss": loss, "start_gap": gap}


def checked_rows(trainer: ResumableDPOTrainer) -> list[dict]:
    return list(trainer.train_dataset.select(range(min(CHECKED_PAIRS, len(trainer.train_dataset)))))


def measured(trainer: ResumableDPOTrainer) -> tuple[float, float]:
    """Mean loss, and largest gap between policy and reference in nats, of the first pairs."""
    losses, gaps = [], []
    model = trainer.model
    was_training = model.training
    model.eval()
    try:
        for row in checked_rows(trainer):
            batch = trainer._prepare_inputs(trainer.data_collator([row]))
            with torch.no_grad(), trainer.accelerator.autocast():
                losses.append(trainer.compute_loss(model, batch).item())
            rewards = trainer._metrics["eval"]
            gaps += [abs(rewards[f"rewards/{side}"][-1]) / trainer.beta for side in ("chosen", "rejected")]
    finally:
        trainer._metrics["eval"].clear()
        model.train(was_training)
    return sum(losses) / len(losses), max(gaps)


def check_reference(policy: PeftModel, adapter: AdapterFile | None) -> None:
    """The reference must be `adapter` to the last bit; None: a LoRA that adds nothing to the base.

    Raises:
        RunError: when it is not.
    """
    weights = dict(policy.named_parameters())
    expected = adapter.tensors() if adapter else {}
    if adapter is None:
        expected = {
            name: torch.zeros_like(weights[name].cpu()) for name in weights if f".lora_B.{REFERENCE_ADAPTER}." in name
        }
    for name, tensor in expected.items():
        held = weights.get(key_in_model(name, REFERENCE_ADAPTER) if adapter else name)
        if held is None and ".lora_" not in name:
            continue  # embeddings stored as the base's own are shared by both adapters and frozen
        if held is not None and held.requires_grad:
            raise RunError(f"the reference is trainable ({name}): it would follow the policy")
        if held is None or not torch.equal(held.detach().cpu(), tensor.to(held.dtype)):
            source = adapter.folder if adapter else "the bare base"
            raise RunError(f"the reference is not {source} ({name} differs): its log-probabilities are wrong")


def check_end(policy: PeftModel, start: AdapterFile | None, reference: AdapterFile | None) -> None:
    """After training the adapter must have changed, and the reference must not.

    Raises:
        RunError: when either is not so.
    """
    check_reference(policy, reference or start)
    weights = dict(policy.named_parameters())
    if start is None:
        changed = any(weight.any() for name, weight in weights.items() if f".lora_B.{POLICY_ADAPTER}." in name)
    else:
        trained = (
            (weights.get(key_in_model(name, POLICY_ADAPTER)), tensor) for name, tensor in start.tensors().items()
        )
        changed = any(
            not torch.equal(weight.detach().cpu(), tensor.to(weight.dtype))
            for weight, tensor in trained
            if weight is not None
        )
    if not changed:
        raise RunError("the adapter is what it was before training: every step rounded to nothing, or none ran")
