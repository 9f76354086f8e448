"""Loads a text classifier for training, fine-tunes it with transformers' Trainer, and computes its logits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from response_generator.config.sources import from_pretrained_keywords
from response_generator.data.labeled_texts import Example
from response_generator.errors import InputError
from response_generator.modeling.precision import has_native_bf16
from response_generator.runs import atomic_files, library_output
from response_generator.training.checkpoints import checkpoint_files
from response_generator.training.monitoring.progress_bar import LOSS_METRIC, ProgressBar

STEPS_BETWEEN_LOSSES = 5  # in the progress line


def hide_warnings() -> None:
    """Hides transformers' warnings, such as that the classification head is new."""
    if not library_output.is_verbose():
        transformers_logging.set_verbosity_error()


def build_training_arguments(trainer: dict[str, Any], output_dir: str, seed: int) -> TrainingArguments:
    """Adds what all classifiers have in common to the section `trainer`; without `save_strategy`, nothing is saved.

    Raises:
        InputError: with transformers' message when values contradict each other.
    """
    settings = {"bf16": has_native_bf16(), "save_strategy": "no"} | trainer
    settings |= {
        "output_dir": output_dir,
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "logging_strategy": "steps",
        "logging_steps": STEPS_BETWEEN_LOSSES,
        "disable_tqdm": True,
    }
    try:
        arguments = TrainingArguments(**settings)
        arguments._n_gpu = min(arguments.n_gpu, 1)  # several would share a batch, whose loss has no weights then
        return arguments
    except Exception as error:  # each setting is checked in another place, with another exception
        raise InputError(f"trainer: {error}") from error


def load_for_training(
    source: str, labels: tuple[str, ...], seed: int, frozen_layers: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A pretrained model with a new classification head, in fp32, and its tokenizer.

    Raises:
        InputError: when the model cannot be loaded or has fewer layers.
    """
    set_seed(seed)  # for the initial weights of the head
    try:
        tokenizer = AutoTokenizer.from_pretrained(**from_pretrained_keywords(source))
        model = AutoModelForSequenceClassification.from_pretrained(
            **from_pretrained_keywords(source),
            dtype=torch.float32,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    except Exception as error:  # models of many classes raise exceptions of many types
        raise InputError(f"base_model: {source}: cannot be loaded as a text classifier ({error})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id  # a language model reads its label at the last other token
    if frozen_layers:
        freeze_first_layers(model, frozen_layers)
    return model, tokenizer


def freeze_first_layers(model: PreTrainedModel, count: int) -> None:
    """Freezes the token embeddings and the first layers.

    Raises:
        InputError: when the model has fewer layers.
    """
    lists = (module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList))
    layers = next(lists, torch.nn.ModuleList())
    if count > len(layers):
        raise InputError(f"frozen_layers: got {count}; allowed: up to {len(layers)}, the layers of base_model")
    model.get_input_embeddings().requires_grad_(False)
    layers[:count].requires_grad_(False)


def fit_classifier(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: list[Example],
    training_arguments: TrainingArguments,
) -> Trainer:
    """Trains a classifier without checkpoints, and returns its trainer."""
    trainer = Trainer(
        model=model,
        args=training_arguments,
        train_dataset=Dataset.from_dict(encode_texts(train, tokenizer) | {"labels": list_class_ids(train, model)}),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    progress = show_progress(trainer, len(train))
    try:
        trainer.train()
    finally:
        progress.on_train_end(trainer.args, trainer.state, trainer.control)  # after an error the bar ends as well
    return trainer


def show_progress(trainer: Trainer, texts: int) -> ProgressBar:
    """Adds a progress bar.

    Args:
        texts: their number in an epoch.
    """
    trainer.remove_callback(PrinterCallback)  # it prints every log entry as a dict across the progress bar
    progress = ProgressBar(texts, "texts", LOSS_METRIC)
    trainer.add_callback(progress)
    return progress


def encode_texts(examples: list[Example], tokenizer: PreTrainedTokenizerBase) -> dict[str, list]:
    """The tokenizer's columns."""
    return dict(tokenizer([text for text, _ in examples], truncation=True))


def list_class_ids(examples: list[Example], model: PreTrainedModel) -> list[int]:
    return [model.config.label2id[label] for _, label in examples]


def compute_logits(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, examples: list[Example]) -> np.ndarray:
    """What the model computes for each text, (texts, labels)."""
    columns = encode_texts(examples, tokenizer)
    order = sorted(range(len(examples)), key=lambda number: -len(columns["input_ids"][number]))  # little padding
    dataset = Dataset.from_dict(columns).select(order)
    # Settings of the training with which `predict` would return other rows, or in another order
    trainer.args.train_sampling_strategy, trainer.args.dataloader_drop_last = "random", False
    logits = np.empty((len(examples), trainer.model.config.num_labels), dtype=np.float64)
    logits[order] = trainer.predict(dataset).predictions
    return logits


def save_classifier(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    with atomic_files.name_file_in_errors(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for file in folder.iterdir():
            checkpoint_files.fsync(file)  # before metrics.json says that the run is finished
