"""What transformers' Trainer lacks: checkpoints that are complete or absent and resume to the same weights, and no
training on NaN."""

import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from response_generator.data.pair_tokenization import global_batch_size
from response_generator.errors import RunError
from response_generator.training.checkpoints import checkpoint_files, checkpointing, resume_callbacks


class CheckpointedTrainer:
    """Mixin of transformers' Trainer. The data need a column `length` for `train_sampling_strategy: "group_by_length"`.

    Args:
        run_identity: written into each checkpoint, see `checkpointing.check_run_identity`.
        save_total_limit: complete checkpoints to keep; None keeps all.
    """

    def __init__(self, *args, run_identity: dict[str, Any], save_total_limit: int | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        for callback in self.build_callbacks(run_identity, save_total_limit):
            self.add_callback(callback)

    def build_callbacks(self, run_identity: dict[str, Any], save_total_limit: int | None) -> list[TrainerCallback]:
        return [
            resume_callbacks.SamplerEpochCallback(),
            resume_callbacks.CheckpointCallback(self.accelerator, run_identity, save_total_limit),
            resume_callbacks.FiniteGradientCallback(self.accelerator),
        ]

    def compute_loss(self, model, *args, **kwargs):
        """The trainer's loss; in training it must be finite, as transformers would train on and log another number.

        Raises:
            RunError: when it is not.
        """
        loss = super().compute_loss(model, *args, **kwargs)
        if model.training and isinstance(loss, torch.Tensor) and not math.isfinite(loss.detach()):
            raise RunError(checkpointing.describe_not_finite("loss", loss.item(), self.args, self.state))
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            if _internal_call:  # the first files of a checkpoint
                checkpoint_files.start(folder)
            self.write_weights(folder)

    def write_weights(self, folder: Path) -> None:
        raise NotImplementedError

    def read_weights(self, checkpoint: Path) -> None:
        """Loads the weights of a checkpoint into the model."""
        raise NotImplementedError

    # The private method below has no public hook; the comment names the promise that needs it.

    def _get_train_sampler(self, train_dataset=None):
        # Promise: a resumed run, and several processes, see the batches of one uninterrupted process.
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        lengths = self.train_dataset["length"]
        return resume_callbacks.EpochSeededLengthSampler(lengths, global_batch_size(self.args), seed)
