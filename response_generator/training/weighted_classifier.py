"""Trains a text classifier whose texts weigh differently, with checkpoints from which it resumes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_model
from transformers import DataCollatorWithPadding, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from response_generator.config.model_files import WEIGHTS
from response_generator.data.labeled_texts import Example
from response_generator.training import run_training, text_classifier
from response_generator.training.checkpoints import checkpointing
from response_generator.training.checkpoints.checkpointed_trainer import CheckpointedTrainer

LABEL_COLUMNS = ["labels", "weights"]


class WeightedClassifierTrainer(CheckpointedTrainer, Trainer):
    """The loss of an optimizer step is the mean over its texts of weight * cross entropy."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, compute_loss_func=self.compute_weighted_loss, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        # They are no argument of the model, and transformers gives the labels alone to the loss.
        self.weights = inputs.pop("weights")
        return super().compute_loss(model, inputs, *args, **kwargs)

    def compute_weighted_loss(
        self, outputs: SequenceClassifierOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            num_items_in_batch: the number of texts of the optimizer step, over its batches and processes.
        """
        smoothing = self.args.label_smoothing_factor
        losses = torch.nn.functional.cross_entropy(
            outputs.logits.float(), labels, reduction="none", label_smoothing=smoothing
        )
        return (losses * self.weights).sum() / num_items_in_batch

    def write_weights(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def read_weights(self, checkpoint: Path) -> None:
        load_model(self.model, checkpoint / WEIGHTS)


def compute_weights(class_ids: np.ndarray, data_weights: np.ndarray, label_balance: float) -> np.ndarray:
    """The weight of the loss of each text, (texts,), with the mean 1.

    Args:
        class_ids, data_weights: the label of each text, and the weight of its data set, (texts,).
        label_balance: a text is weighted by the count of its label to the power of minus this, a text with the weight w
            being counted w times. With 1 and equal data sets, these are scikit-learn's "balanced" class weights.
    """
    counts = np.bincount(class_ids, data_weights)
    weights = data_weights * counts[class_ids] ** -label_balance
    return weights / weights.mean()


def build_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: list[Example],
    weights: Sequence[float],
    training_arguments: TrainingArguments,
    run_identity: dict[str, Any],
    save_total_limit: int,
) -> WeightedClassifierTrainer:
    """
    Args:
        weights: of the loss of each text, see `compute_weights`.
        run_identity: written into each checkpoint, see `checkpointing.check_run_identity`.
    """
    columns = text_classifier.encode_texts(train, tokenizer)
    columns |= {"length": [len(ids) for ids in columns["input_ids"]], "weights": list(weights)}
    columns["labels"] = text_classifier.list_class_ids(train, model)
    training_arguments.label_names = LABEL_COLUMNS  # or the trainer removes the column weights
    trainer = WeightedClassifierTrainer(
        model=model,
        args=training_arguments,
        train_dataset=Dataset.from_dict(columns),
        data_collator=DataCollatorWithPadding(tokenizer),
        run_identity=run_identity,
        save_total_limit=save_total_limit,
    )
    text_classifier.show_progress(trainer, len(train))
    return trainer


def train(trainer: WeightedClassifierTrainer) -> None:
    """Trains, from the last complete checkpoint where there is one.

    Raises:
        KeyboardInterrupt: after a signal; the message names the checkpoint that was saved.
        RunError: when a checkpoint cannot be written, or a loss or gradient is not finite.
    """
    run = Path(trainer.args.output_dir)
    checkpoint = run_training.find_resume_checkpoint(trainer, run)
    if not run_training.load_finished_training(trainer, checkpoint):
        run_training.run_steps(trainer, checkpoint)
    checkpointing.remove_unusable(run)
