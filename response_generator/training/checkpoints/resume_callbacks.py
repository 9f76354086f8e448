"""Callbacks and a sampler that let a resumed run continue exactly, and that make checkpoints complete or absent."""

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from response_generator.errors import RunError
from response_generator.training.checkpoints import checkpoint_files, checkpointing


class EpochSeededLengthSampler(Sampler):
    """Groups pairs of similar length, in an order that depends only on seed and epoch.

    transformers' own sampler draws from the global random generator, whose state at the start of an epoch a resumed run
    does not have. It also groups by the batch of one process, so two processes would see other batches than one.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


class SamplerEpochCallback(TrainerCallback):
    """Tells the sampler its epoch. In one of several processes accelerate wraps it twice, and does not reach it."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        batches = train_dataloader.batch_sampler
        batches = getattr(batches, "batch_sampler", batches)  # accelerate's share of one process
        sampler = getattr(batches, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(math.floor(state.epoch + 1e-6))  # at the end of an epoch it is 1.0, but for rounding


class FiniteGradientCallback(TrainerCallback):
    """Stops the run before a step with NaN or infinite gradients. With fp16 the scaler itself skips such a step."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.accelerator.scaler is not None:
            return
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not math.isfinite(norm):
            raise RunError(checkpointing.describe_not_finite("gradient norm", norm.item(), args, state))


class CheckpointCallback(TrainerCallback):
    """Completes each checkpoint that transformers has written, then removes old ones.

    A checkpoint is complete when it holds `run.json`, which is written last, after all other files are on the disk, and
    lists their sizes and digests.
    """

    def __init__(self, accelerator: Accelerator, run_identity: dict[str, Any], save_total_limit: int | None):
        self.accelerator = accelerator
        self.run_identity = run_identity
        self.save_total_limit = save_total_limit
        logging.getLogger("transformers.trainer").addFilter(is_no_lost_checkpoint)

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step:
            checkpoint = checkpointing.checkpoint_folder(args.output_dir, state.global_step)
            best = checkpointing.find_best_checkpoint(checkpoint)
            state.best_model_checkpoint = str(best) if best else None

    def on_save(self, args, state, control, **kwargs):
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if args.should_save:
            folder = checkpointing.checkpoint_folder(args.output_dir, state.global_step)
            checkpoint_files.complete(folder, self.run_identity)
            # Not left to transformers, which removes the previous checkpoint before this one is complete.
            best = Path(state.best_model_checkpoint) if state.best_model_checkpoint else None
            checkpoint_files.rotate(Path(args.output_dir), self.save_total_limit, best)
        self.accelerator.wait_for_everyone()


def is_no_lost_checkpoint(record: logging.LogRecord) -> bool:
    """transformers warns that it forgets the best checkpoint when the run folder was moved; it is found there."""
    return not str(record.msg).startswith("The best checkpoint")


class LogSumsCallback(TrainerCallback):
    """Keeps the sums for the next log line in the checkpoint.

    Promise: a resumed run logs the same lines as an uninterrupted one. transformers and TRL start the sums anew.
    Logging at every save would not do: a signal saves at steps where an uninterrupted run does not log.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def find_file(self, state) -> Path:
        args = self.trainer.args
        folder = checkpointing.checkpoint_folder(args.output_dir, state.global_step)
        return checkpointing.name_log_sums_file(folder, args.process_index, args.world_size)

    def on_save(self, args, state, control, **kwargs):
        trainer = self.trainer
        sums = {
            "loss": trainer._tr_loss.item(),
            "total_loss": trainer._total_loss_scalar,
            "logged_at": trainer._globalstep_last_logged,
            "metrics": trainer._metrics["train"],
            "tokens": trainer._total_train_tokens,
        }
        file = self.find_file(state)
        os.makedirs(file.parent, exist_ok=True)  # the main process may not have created it yet
        file.write_text(json.dumps(sums), encoding="utf-8")

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            return
        trainer = self.trainer
        sums = json.loads(self.find_file(state).read_text(encoding="utf-8"))
        trainer._tr_loss += sums["loss"]
        trainer._total_loss_scalar = sums["total_loss"]
        trainer._globalstep_last_logged = sums["logged_at"]
        trainer._total_train_tokens = sums["tokens"]
        for name, values in sums["metrics"].items():
            trainer._metrics["train"][name] = values
