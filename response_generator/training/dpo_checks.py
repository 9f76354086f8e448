"""Checks before the first step and after the last one: a run must not look healthy while it trains the wrong thing."""

import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from trl.trainer.utils import use_adapter

from response_generator.constants import REFERENCE_ADAPTER, SIDES
from response_generator.errors import RunError
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import to_model_key
from response_generator.modeling.dpo_loss import dpo_loss, reward_margins
from response_generator.modeling.logprobs import completion_logps
from response_generator.training.adapter_checks import check_changed
from response_generator.training.dpo_loss_types import LOSS_PARTS, includes_plain_sigmoid
from response_generator.training.reference import REF_LOGPS_COLUMNS
from response_generator.training.trl_trainers import ResumableDPOTrainer

# How far two computations of one log-probability may differ. A precomputed reference was computed in other batches; in
# bfloat16 that changes a completion by tenths of a nat, and a long one by more.
MAX_LOGP_GAP_NATS = 0.5
MAX_LOGP_GAP_NATS_PER_TOKEN = 0.02
# Some models round worse. Then the limit is this many times what the batch size alone changes. A mask or positions that
# are wrong change some ten times as much.
MAX_TIMES_ROUNDING = 4
NUM_CHECKED_PAIRS = 4


def check_start(
    trainer: ResumableDPOTrainer, start: AdapterFile | None, reference: AdapterFile | None
) -> dict[str, float]:
    """Before the first step, on a few pairs: the reference must be its file, and TRL must compute the DPO loss, also
    where it is one of several that are added.

    Where no other reference is named, policy and reference must also have the same log-probabilities, so the loss is
    ln 2.

    Args:
        start: the adapter that training starts from; None for a new LoRA.
        reference: the adapter of `reference_adapter`; None for a frozen copy of `start`.

    Returns:
        `initial_loss`: mean loss as TRL computes it. `initial_loss/TYPE`: where several losses are added, each of them
        without its weight. `initial_max_logp_gap`: largest difference between policy and reference, in nats a
        completion.

    Raises:
        RunError: when the reference is not the adapter that it should be, or TRL's loss is not DPO's.
    """
    check_reference(trainer.model, reference or start)
    rows = list(trainer.train_dataset.select(range(min(NUM_CHECKED_PAIRS, len(trainer.train_dataset)))))
    policy, ref = compute_pair_logps(trainer, rows)
    gap = (policy - ref).abs().max().item()
    parts = compute_loss_parts(trainer, rows)
    loss = sum(weight * parts[each] for each, weight in zip(trainer.loss_types, trainer.loss_weights, strict=True))
    expected = dpo_loss(reward_margins(*policy.T, *ref.T, beta=trainer.beta)).mean().item()
    longest = max(len(row[f"{side}_ids"]) for row in rows for side in SIDES)
    max_gap = max(MAX_LOGP_GAP_NATS, MAX_LOGP_GAP_NATS_PER_TOKEN * longest)
    if gap > max_gap:
        max_gap = max(max_gap, MAX_TIMES_ROUNDING * measure_rounding(trainer, rows, policy))
    # The comparisons are false for nan, so they ask for what must hold.
    if reference is None and not gap <= max_gap:
        raise RunError(
            f"before the first step policy and reference differ by {gap:.3f} nats (loss {loss:.4f}, expected "
            f"0.6931): the reference is not the adapter that training starts from"
        )
    if includes_plain_sigmoid(trainer.args) and not abs(parts["sigmoid"] - expected) <= 2 * trainer.beta * max_gap:
        raise RunError(
            f"before the first step TRL computes a loss of {parts['sigmoid']:.4f}; the DPO loss is {expected:.4f}"
        )
    metrics = {"initial_loss": loss, "initial_max_logp_gap": gap}
    return metrics | ({LOSS_PARTS + each: part for each, part in parts.items()} if len(parts) > 1 else {})


def compute_pair_logps(trainer: ResumableDPOTrainer, rows: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (nats) of policy and reference, each (pairs, 2) for chosen and rejected.

    Those of a precomputed reference are columns of the data set.
    """
    model, pad_token_id = trainer.model, trainer.processing_class.pad_token_id
    texts = [(row["prompt_ids"], row[f"{side}_ids"]) for row in rows for side in SIDES]
    was_training = model.training
    model.eval()
    with trainer.accelerator.autocast():
        policy = completion_logps(model, texts, pad_token_id)
        if trainer.precompute_ref_logps:
            ref = [row[column] for row in rows for column in REF_LOGPS_COLUMNS]
        else:
            with use_adapter(model, REFERENCE_ADAPTER):
                ref = completion_logps(model, texts, pad_token_id)
    model.train(was_training)
    return torch.tensor(policy).reshape(-1, len(SIDES)), torch.tensor(ref).reshape(-1, len(SIDES))


def measure_rounding(trainer: ResumableDPOTrainer, rows: list[dict], together: torch.Tensor) -> float:
    """How far a log-probability (nats) of the policy changes when its pair is computed alone.

    Args:
        together: those of all pairs in one batch, (pairs, 2).
    """
    alone = torch.cat([compute_pair_logps(trainer, [row])[0] for row in rows])
    return (alone - together).abs().max().item()


def compute_trl_loss(trainer: ResumableDPOTrainer, rows: list[dict]) -> float:
    """Mean loss of the pairs, one at a time, without dropout and gradients."""
    model, losses = trainer.model, []
    was_training = model.training
    model.eval()
    try:
        for row in rows:
            # Not get_eval_dataloader: it would give each process a share of these few pairs, perhaps none.
            batch = send_to_device(trainer.data_collator([row]), trainer.args.device)
            with torch.no_grad(), trainer.accelerator.autocast():
                losses.append(trainer.compute_loss(model, batch).item())
    finally:
        trainer._metrics["eval"].clear()  # compute_loss adds to what the next evaluation logs
        model.train(was_training)
    return sum(losses) / len(losses)


def compute_loss_parts(trainer: ResumableDPOTrainer, rows: list[dict]) -> dict[str, float]:
    """Mean loss of the pairs as TRL computes it, for each of the loss types without its weight."""
    types, weights = trainer.loss_types, trainer.loss_weights
    parts = {}
    try:
        for each in types:
            trainer.loss_types, trainer.loss_weights = [each], [1.0]
            parts[each] = compute_trl_loss(trainer, rows)
    finally:
        trainer.loss_types, trainer.loss_weights = types, weights
    return parts


def check_reference(policy: PeftModel, adapter: AdapterFile | None) -> None:
    """The frozen adapter on the model must hold exactly the weights of its file.

    Args:
        adapter: the file; None for a LoRA that adds nothing to the base.

    Raises:
        RunError: when it does not.
    """
    weights = dict(policy.named_parameters())
    expected = adapter.tensors() if adapter else {}
    if adapter is None:
        expected = {
            name: torch.zeros_like(weights[name].cpu()) for name in weights if f".lora_B.{REFERENCE_ADAPTER}." in name
        }
    for name, tensor in expected.items():
        held = weights.get(to_model_key(name, REFERENCE_ADAPTER) if adapter else name)
        if held is None and ".lora_" not in name:
            continue  # embeddings stored as the base's own: both adapters share them, and they are frozen
        if held is not None and held.requires_grad:
            raise RunError(f"the reference is trainable ({name}): it would change together with the policy")
        if held is None or not torch.equal(held.detach().cpu(), tensor.to(held.dtype)):
            source = adapter.folder if adapter else "the bare base"
            raise RunError(f"the reference is not {source} ({name} differs): its log-probabilities are wrong")


def check_end(policy: PeftModel, start: AdapterFile | None, reference: AdapterFile | None) -> None:
    """After training the adapter must have changed, and the reference must not.

    Raises:
        RunError: when this is not so.
    """
    check_reference(policy, reference or start)
    check_changed(policy, start)
