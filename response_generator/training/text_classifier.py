"""Fine-tunes a text classifier with transformers' Trainer, and measures it."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sklearn.metrics import classification_report
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
from response_generator.errors import InputError
from response_generator.modeling.precision import has_native_bf16
from response_generator.runs import atomic_files, library_output
from response_generator.training.monitoring.progress_bar import LOSS_METRIC, ProgressBar

Example = tuple[str, str]  # text, label
STEPS_BETWEEN_LOSSES = 5  # in the progress line


def hide_warnings() -> None:
    """Hides transformers' warnings, such as that the classification head is new."""
    if not library_output.is_verbose():
        transformers_logging.set_verbosity_error()


def build_training_arguments(trainer: dict[str, Any], output_dir: str, seed: int) -> TrainingArguments:
    """Adds what all classifiers have in common to the section `trainer`.

    Raises:
        InputError: with transformers' message when values contradict each other.
    """
    settings = {"bf16": has_native_bf16()} | trainer
    settings |= {
        "output_dir": output_dir,
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": [],
        "logging_strategy": "steps",
        "logging_steps": STEPS_BETWEEN_LOSSES,
        "disable_tqdm": True,
    }
    try:
        return TrainingArguments(**settings)
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
    unit: str = "texts",
) -> Trainer:
    """Trains a classifier and returns its trainer, which can also predict.

    Args:
        unit: what the examples are, in the plural, for the progress line.
    """
    trainer = Trainer(
        model=model,
        args=training_arguments,
        train_dataset=encode_examples(train, model, tokenizer),
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log entry as a dict across the progress bar
    progress = ProgressBar(len(train), unit, LOSS_METRIC)
    trainer.add_callback(progress)
    try:
        trainer.train()
    finally:
        progress.on_train_end(trainer.args, trainer.state, trainer.control)  # after an error the bar ends as well
    trainer.args.train_sampling_strategy = "random"  # or `predict` would return the rows in another order
    return trainer


def encode_examples(examples: list[Example], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    texts, names = zip(*examples, strict=True)
    ids = model.config.label2id
    return Dataset.from_dict({**tokenizer(list(texts), truncation=True), "labels": [ids[name] for name in names]})


def measure_classifier(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, held_out: list[Example]
) -> dict[str, float | int]:
    """Measures a classifier on held-out examples.

    Returns:
        `accuracy`, `majority_accuracy` (that of answering every example with the most frequent label), `macro_recall`
        and `macro_f1` (means over the labels of the examples), `held_out` (their number), and for each of these labels
        `precision/LABEL`, `recall/LABEL`, `f1/LABEL` and `examples/LABEL`.
    """
    names = trainer.model.config.id2label
    predicted = trainer.predict(encode_examples(held_out, trainer.model, tokenizer)).predictions.argmax(-1)
    gold = [name for _, name in held_out]
    labels = sorted(set(gold))
    report = classification_report(
        gold, [names[label] for label in predicted], labels=labels, output_dict=True, zero_division=0
    )
    metrics: dict[str, float | int] = {
        "accuracy": sum(names[label] == name for label, name in zip(predicted, gold, strict=True)) / len(gold),
        "majority_accuracy": max(map(gold.count, labels)) / len(gold),
        "macro_recall": report["macro avg"]["recall"],
        "macro_f1": report["macro avg"]["f1-score"],
        "held_out": len(gold),
    }
    for label in labels:
        metrics |= {
            f"precision/{label}": report[label]["precision"],
            f"recall/{label}": report[label]["recall"],
            f"f1/{label}": report[label]["f1-score"],
            f"examples/{label}": int(report[label]["support"]),
        }
    return metrics


def save_classifier(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    with atomic_files.name_file_in_errors(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
