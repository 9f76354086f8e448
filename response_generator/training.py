"""TRL's DPOTrainer on our tokens, and the checks that keep a run from looking healthy while doing the wrong thing."""

import math
import resource
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from response_generator.adapters import AdapterFile, key_in_model
from response_generator.errors import InputError, TrainingError
from response_generator.model import REFERENCE, TRAINED
from response_generator.pairs import PairTokens, pairs_a_step

AGREEMENT = 0.5  # nats a completion; bf16 sums of a precomputed reference differ by some tenths
CHECKED_PAIRS = 4


class PreferenceTrainer(DPOTrainer):
    """DPOTrainer that takes pairs already tokenised and keeps the reference out of its checkpoints."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        # Our renderer has tokenised, counted and shown the pairs; TRL would do it again, in another way.
        return dataset

    def create_model_card(self, *args, **kwargs):
        # TRL writes one beside every checkpoint.
        return None

    def _save(self, output_dir=None, state_dict=None):
        # With a `ref` folder beside it, transformers would restore `ref` alone and resume from the SFT weights.
        directory = output_dir or self.args.output_dir
        self.accelerator.unwrap_model(self.model).save_pretrained(directory, selected_adapters=[TRAINED])
        self.processing_class.save_pretrained(directory)
        Path(directory, "README.md").unlink()  # PEFT's form to fill in; the finished adapter gets a card of ours


def training_config(dpo: dict[str, Any], output_dir: str, seed: int, backend: str) -> DPOConfig:
    """Builds TRL's configuration from the section `dpo`.

    Raises:
        InputError: with TRL's own words when values do not go together, or when the backend cannot train here.
    """
    if backend == "transformers" and not torch.cuda.is_available():
        raise InputError(
            'backend: "transformers" trains on a CUDA device only: the loss of TRL 1.15 is a Triton kernel, for which '
            'unsloth has a CPU twin; use "unsloth" here'
        )
    ours = {"output_dir": output_dir, "seed": seed, "report_to": [], "disable_tqdm": True}
    device = {} if torch.cuda.is_available() else {"use_cpu": True}
    try:
        return DPOConfig(**{**device, **dpo, **ours})
    except (ValueError, TypeError) as error:
        raise InputError(f"dpo: {error}") from error


def build_trainer(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    config: DPOConfig,
    train: PairTokens,
    held_out: PairTokens | None,
    callbacks: list[TrainerCallback],
) -> PreferenceTrainer:
    """Builds the trainer; TRL adds the frozen adapter `ref`, a copy of `default`.

    Raises:
        TrainingError: when nothing would be trained.
    """
    loaded = trained_weights(policy)
    if not loaded:
        raise TrainingError("no parameter is trainable: the adapter was loaded frozen, and nothing would be learned")
    outside = [name for name in loaded if f".{TRAINED}." not in name]
    if outside:
        raise TrainingError(f"parameters outside the adapter are trainable, for example {outside[0]}")
    trainer = PreferenceTrainer(
        model=policy,
        args=config,
        train_dataset=train.dataset(),
        eval_dataset=held_out.dataset() if held_out else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log as a dict through the progress bar
    restore(policy, loaded)
    return trainer


def trained_weights(policy: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().float().clone() for name, weight in policy.named_parameters() if weight.requires_grad}


def restore(policy: PeftModel, loaded: dict[str, torch.Tensor]) -> None:
    """Gives adapter and reference the weights that were loaded, in fp32.

    TRL casts a 4-bit model's LoRA weights to bf16, where small AdamW steps round to nothing, and keeps the copies that
    `ref` holds of whole modules in the base's dtype. Two precisions would also make two functions of one adapter.
    """
    for name, weights in loaded.items():
        policy.get_parameter(name).data = weights
        policy.get_parameter(name.replace(f".{TRAINED}.", f".{REFERENCE}.")).data = weights.clone()


def check_start(trainer: PreferenceTrainer) -> dict[str, float]:
    """Before the first step policy and reference are the same function, and the sigmoid loss is ln 2.

    Returns:
        `{"start_loss", "start_gap"}`: the mean loss, and the largest difference of log-probabilities in nats.

    Raises:
        TrainingError: when they differ: the reference is not the adapter that training starts from.
    """
    losses, gaps = [], []
    model = trainer.model
    was_training = model.training
    model.eval()
    try:
        for row in list(trainer.train_dataset.select(range(min(CHECKED_PAIRS, len(trainer.train_dataset))))):
            batch = trainer._prepare_inputs(trainer.data_collator([row]))
            with torch.no_grad(), trainer.accelerator.autocast():
                losses.append(trainer.compute_loss(model, batch).item())
            rewards = trainer._metrics["eval"]
            gaps += [abs(rewards[f"rewards/{side}"][-1]) / trainer.beta for side in ("chosen", "rejected")]
    finally:
        trainer._metrics["eval"].clear()
        model.train(was_training)
    loss, gap = sum(losses) / len(losses), max(gaps)
    # Other losses have other values here, so the gap alone decides; nan compares false, so ask for what must hold.
    sound = gap <= AGREEMENT
    if trainer.loss_types == ["sigmoid"] and trainer.loss_weights == [1.0] and not trainer.use_weighting:
        sound = sound and abs(loss - math.log(2)) <= trainer.beta * AGREEMENT
    if not sound:
        raise TrainingError(
            f"before the first step policy and reference differ by {gap:.3f} nats (loss {loss:.4f}, expected "
            f"{math.log(2):.4f}): the reference is not the adapter that training starts from"
        )
    return {"start_loss": loss, "start_gap": gap}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of an unfinished run; one without its state, which is written last, is passed over."""
    whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]), default=None)


def train(trainer: PreferenceTrainer, folder: Path) -> dict[str, float]:
    """Trains, from the newest checkpoint in `folder` where there is one, then measures the held-out pairs.

    Returns:
        `train_loss` (mean of all logged steps, those before a resumption included), TRL's last logged metrics,
        `eval_*` on the held-out pairs, `pairs_per_second` and `train_seconds` of this session, and peak memory in GB.
    """
    checkpoint = last_checkpoint(folder)
    if checkpoint:
        print(f"resuming from {checkpoint}")
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # closes the progress bar
        place = last_checkpoint(folder) or "the start"
        raise KeyboardInterrupt(f"the same command goes on from {place}") from None
    session = trainer.state.global_step - (int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0)
    seconds = result.metrics["train_runtime"]
    metrics = {
        "train_loss": mean_loss(trainer.state.log_history),
        "train_seconds": seconds,
        "pairs_per_second": session * pairs_a_step(trainer.args) / seconds,
        "steps": trainer.state.global_step,
        "epoch": trainer.state.epoch,
    }
    last = next((entry for entry in reversed(trainer.state.log_history) if "rewards/margins" in entry), {})
    metrics |= {key: value for key, value in last.items() if key.startswith(("rewards/", "logps/"))}
    if trainer.eval_dataset is not None:
        metrics |= trainer.evaluate()
    return metrics | {"peak_memory_gb": peak_memory_gb()}


def mean_loss(log: list[dict[str, Any]]) -> float:
    """The mean over steps of the logged losses, each of which is the mean since the entry before it."""
    entries = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
    if not entries:
        return math.nan
    starts = [0, *(step for step, _ in entries[:-1])]
    return sum((step - start) * loss for start, (step, loss) in zip(starts, entries, strict=True)) / entries[-1][0]


def peak_memory_gb() -> float:
    """The card's peak where there is one, else the process's (Linux counts it in kilobytes)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def save_adapter(policy: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, card: str) -> None:
    """Writes the trained adapter, its tokenizer, template and model card: what evaluate.py and PeftModel load."""
    policy.save_pretrained(folder, selected_adapters=[TRAINED])
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def check_end(policy: PeftModel, source: AdapterFile) -> None:
    """After training the adapter must have changed, and the reference must be its source to the last bit.

    Raises:
        TrainingError: when either is not so.
    """
    weights = dict(policy.named_parameters())
    changed = False
    for name, tensor in source.tensors().items():
        reference = weights.get(key_in_model(name, REFERENCE))
        if reference is None:
            continue  # embeddings stored as the base's own are shared by both adapters and frozen
        if not torch.equal(reference.detach().cpu(), tensor.to(reference.dtype)):
            raise TrainingError(f"the reference changed during training ({name}); its log-probabilities were wrong")
        trained = weights[key_in_model(name, TRAINED)]
        changed = changed or not torch.equal(trained.detach().cpu(), tensor.to(trained.dtype))
    if not changed:
        raise TrainingError("the adapter is what it was before training: every step rounded to nothing, or none ran")
