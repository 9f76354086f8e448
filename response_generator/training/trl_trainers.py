"""TRL's trainers, with what they lack: checkpoints that resume to the same bytes, no training on NaN, and means of
held-out rows that do not depend on the batches. Their rows are tokenized before."""

from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOTrainer, SFTTrainer

from response_generator.constants import POLICY_ADAPTER
from response_generator.data.dialogue_tokenization import IGNORED_LABEL
from response_generator.modeling.adapters import write_adapter
from response_generator.training import held_out
from response_generator.training.checkpoints import checkpoint_files, resume_callbacks
from response_generator.training.checkpoints.checkpointed_trainer import CheckpointedTrainer

# Which replies' tokens TRL averages these metrics over; the others are means over pairs.
SIDES_OF_TOKEN_METRICS = {
    "entropy": ("chosen", "rejected"),
    "mean_token_accuracy": ("chosen",),
    "logits/chosen": ("chosen",),
    "logits/rejected": ("rejected",),
}


class ResumableTrainer(CheckpointedTrainer):
    """Mixin of a trainer of TRL: it resumes to the bytes of an unbroken run, the log included.

    `section` is the key in the args with the fields of the trainer's configuration.
    """

    section: str

    def build_callbacks(self, run_identity: dict[str, Any], save_total_limit: int | None) -> list[TrainerCallback]:
        others = super().build_callbacks(run_identity, save_total_limit)
        return [resume_callbacks.LogSumsCallback(self), *others]  # first: it writes a file of the checkpoint

    def count_terms(self, name: str, row: dict[str, Any]) -> int:
        """How many terms a held-out row has in the mean of that name: its tokens, or 1."""
        raise NotImplementedError

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoaderShard:
        """Batches of rows in their order; from the longest to the shortest where training groups them by length."""
        dataset, args = self.eval_dataset if eval_dataset is None else eval_dataset, self.args
        order = list(range(len(dataset)))
        if args.train_sampling_strategy == "group_by_length":
            lengths = dataset["length"][:]
            order.sort(key=lambda row: -lengths[row])
        batches = held_out.HeldOutBatches(order, args.eval_batch_size, args.process_index, args.world_size)
        return DataLoaderShard(
            dataset,
            device=self.accelerator.device,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def prediction_step(self, *args, **kwargs):
        """TRL's; keeps the loss of each process."""
        loss, *others = super().prediction_step(*args, **kwargs)
        self.held_out_losses.append(self.accelerator.gather(loss.detach().reshape(1)).tolist())
        return loss, *others

    def evaluation_loop(self, dataloader: DataLoaderShard, *args, **kwargs):
        """TRL's; afterwards each metric, and the loss, is a mean over all held-out rows, or over their tokens."""
        self.held_out_losses: list[list[float]] = []
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        steps, rows = dataloader.batch_sampler.steps, list(dataloader.dataset)
        metrics = self._metrics["eval"]
        metrics |= held_out.compute_means(metrics, self.held_out_losses, steps, self.count_terms, rows)
        return output

    def write_weights(self, folder: Path) -> None:
        """Writes the policy's adapter without the reference: transformers would load a `ref` folder as the policy."""
        write_adapter(self.accelerator.unwrap_model(self.model), POLICY_ADAPTER, folder)
        (folder / checkpoint_files.PEFT_CARD).unlink()  # a template; the finished adapter gets its own model card
        self.processing_class.save_pretrained(folder)

    def read_weights(self, checkpoint: Path) -> None:
        self.model.load_adapter(str(checkpoint), POLICY_ADAPTER, is_trainable=True)

    def create_model_card(self, *args, **kwargs) -> None:
        """TRL would write one into the run folder at every checkpoint."""

    # The private methods below have no public hook; each comment names the promise that needs it.

    def _prepare_dataset(self, dataset, *args, **kwargs):
        # Promise: what the preview counts and shows is what is trained on. TRL would tokenize again, in its own way.
        return dataset

    def _load_optimizer_and_scheduler(self, checkpoint):
        # Promise: several CPU processes can be resumed. transformers would map the tensors to "cpu:0", which torch
        # does not accept.
        if checkpoint is not None:
            for holder, name in ((self.optimizer, "optimizer.pt"), (self.lr_scheduler, "scheduler.pt")):
                holder.load_state_dict(torch.load(Path(checkpoint, name), map_location="cpu", weights_only=True))


class ResumableDPOTrainer(ResumableTrainer, DPOTrainer):
    """See `ResumableTrainer`."""

    section = "dpo"

    def count_terms(self, name: str, row: dict[str, Any]) -> int:
        sides = SIDES_OF_TOKEN_METRICS.get(name)
        return sum(len(row[f"{side}_ids"]) for side in sides) if sides else 1


class ResumableSFTTrainer(ResumableTrainer, SFTTrainer):
    """See `ResumableTrainer`."""

    section = "sft"

    def count_terms(self, name: str, row: dict[str, Any]) -> int:
        """The tokens with a loss: TRL averages over tokens alone."""
        return sum(label != IGNORED_LABEL for label in row["labels"])
