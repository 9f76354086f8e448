"""TRL's DPOTrainer where it must behave otherwise: our tokens, whole checkpoints, exact resumption, no silent NaN."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import rotate_checkpoints
from trl import DPOTrainer

from response_generator.constants import POLICY_ADAPTER
from response_generator.data.tokenization import global_batch_size
from response_generator.errors import RunError
from response_generator.modeling.adapters import write_adapter
from response_generator.training import checkpointing


class ResumableDPOTrainer(DPOTrainer):
    """Takes tokenized pairs, keeps the reference out of checkpoints, and continues one to the last bit."""

    def __init__(self, *args, run_identity: dict[str, Any], **kwargs):
        super().__init__(*args, **kwargs)
        self.run_identity = run_identity  # of each checkpoint
        self.add_callback(LogSumsCallback(self))

    def _prepare_dataset(self, dataset, *args, **kwargs):
        # Our formatter has tokenized, counted and shown the pairs; TRL would do it again, in another way.
        return dataset

    def create_model_card(self, *args, **kwargs):
        # TRL writes one beside every checkpoint.
        return None

    def _get_train_sampler(self, train_dataset=None):
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSeededLengthSampler(self.train_dataset["length"], global_batch_size(self.args), seed)

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        shard = loader.batch_sampler
        # In one of several processes; accelerate looks for a sampler there, to tell it the epoch of a resumed run.
        if hasattr(shard, "batch_sampler"):
            shard.sampler = shard.batch_sampler.sampler
        return loader

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.check_finite("loss", loss)
        return loss

    def _get_grad_norm(self, *args, **kwargs):
        norm = super()._get_grad_norm(*args, **kwargs)
        if norm is not None and self.accelerator.scaler is None:  # with fp16 the scaler skips such a step itself
            self.check_finite("gradient norm", norm)
        return norm

    def check_finite(self, name: str, value: torch.Tensor | float) -> None:
        """Raises RunError before a NaN or an infinity reaches the adapter; transformers would log another loss."""
        if not math.isfinite(value):
            raise RunError(
                f"step {self.state.global_step + 1}: the {name} is {float(value)}; stopped before the adapter was "
                f"touched. Usual causes: dpo.learning_rate ({self.args.learning_rate:g}) is too high, or fp16 "
                f"overflows (use bf16). Last good checkpoint: "
                f"{checkpointing.find_last_checkpoint(Path(self.args.output_dir)) or 'none'}"
            )

    def _save(self, output_dir=None, state_dict=None):
        # With a `ref` folder beside it, transformers would restore `ref` alone and resume from the SFT weights.
        directory = output_dir or self.args.output_dir
        write_adapter(self.accelerator.unwrap_model(self.model), POLICY_ADAPTER, Path(directory))
        self.processing_class.save_pretrained(directory)
        Path(directory, "README.md").unlink()  # PEFT's form to fill in; the finished adapter gets a card of ours

    def _load_optimizer_and_scheduler(self, checkpoint):
        # transformers maps them to "cpu:0" in one of several CPU processes, a place that torch does not know.
        if checkpoint is not None:
            for holder, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
                holder.load_state_dict(torch.load(Path(checkpoint, name), map_location="cpu", weights_only=True))

    def _get_output_dir(self, trial):
        # Where transformers writes checkpoints; they are renamed to their place when they are whole.
        return str(Path(self.args.output_dir, checkpointing.STAGING_DIR))

    def _save_checkpoint(self, model, trial):
        final = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        if not checkpointing.missing_files(final):
            return
        part = Path(self._get_output_dir(trial), final.name)
        try:
            super()._save_checkpoint(model, trial)
            write_log_sums(self, part)
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(final)
            if self.args.should_save:
                self.state.save_to_json(str(part / "trainer_state.json"))
                (part / checkpointing.RUN_IDENTITY_FILE).write_text(json.dumps(self.run_identity), encoding="utf-8")
                checkpointing.publish(part, final)
        except Exception as error:  # a full disk is another exception in each library; tokenizers' is a bare one
            shutil.rmtree(part, ignore_errors=True)
            raise RunError(
                f"{final} could not be written ({error}); {describe_free_space(self.args.output_dir)}. The same "
                f"command continues from {checkpointing.find_last_checkpoint(final.parent) or 'the start'}"
            ) from error
        if self.args.should_save:
            rotate_checkpoints(self.args.output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()


def describe_free_space(folder: str) -> str:
    return f"{shutil.disk_usage(folder).free / 1e9:.2f} GB are free there"


class EpochSeededLengthSampler(Sampler):
    """Pairs of like length together, in an order that depends on seed and epoch alone.

    transformers' own sampler draws from the global generator, whose state a resumed run does not have at the epoch's
    start, and groups by the batch of one process, so that two processes would see other batches than one.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int):
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=generator))


def find_log_sums_file(checkpoint: Path, trainer: ResumableDPOTrainer) -> Path:
    return checkpointing.name_log_sums_file(checkpoint, trainer.args.process_index, trainer.args.world_size)


def write_log_sums(trainer: ResumableDPOTrainer, checkpoint: Path) -> None:
    """Keeps what is summed up for the next log line; transformers and TRL forget it, and the line would differ."""
    sums = {
        "loss": trainer._tr_loss.item(),
        "total_loss": trainer._total_loss_scalar,
        "logged_at": trainer._globalstep_last_logged,
        "metrics": trainer._metrics["train"],
        "tokens": trainer._total_train_tokens,
    }
    find_log_sums_file(checkpoint, trainer).write_text(json.dumps(sums), encoding="utf-8")


class LogSumsCallback(TrainerCallback):
    """Restores the sums of `write_log_sums` at the one moment when the trainer has just set them to zero."""

    def __init__(self, trainer: ResumableDPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            return
        trainer = self.trainer
        checkpoint = Path(args.output_dir, f"checkpoint-{state.global_step}")
        sums = json.loads(find_log_sums_file(checkpoint, trainer).read_text(encoding="utf-8"))
        trainer._tr_loss += sums["loss"]
        trainer._total_loss_scalar = sums["total_loss"]
        trainer._globalstep_last_logged = sums["logged_at"]
        trainer._total_train_tokens = sums["tokens"]
        for name, values in sums["metrics"].items():
            trainer._metrics["train"][name] = values
