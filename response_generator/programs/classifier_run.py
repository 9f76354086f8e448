"""A run that trains a classifier of labels, from its texts to what was measured of it."""

from collections.abc import Iterable

import numpy as np
from rich.table import Table
from rich.text import Text
from scipy.special import softmax
from transformers import PreTrainedTokenizerBase, Trainer

from response_generator.cli.data_preview import console, show_limits, show_skipped, show_warning
from response_generator.config.library.library_keywords import read_default
from response_generator.config.source_list import list_sources
from response_generator.config.training_schema import ClassifierArguments
from response_generator.data.classifier_data import ClassifierData, list_skipped_metrics
from response_generator.data.labeled_texts import ExampleRow, list_examples
from response_generator.runs.run_folder import RunFolder
from response_generator.scoring.calibration import Calibration, fit_calibration, write_calibration
from response_generator.scoring.quality import (
    ClassifierQuality,
    DatasetQuality,
    LabelQuality,
    list_metrics,
    measure_dataset,
    write_quality,
)
from response_generator.training import text_classifier, weighted_classifier
from response_generator.training.checkpoints import checkpointing

MIN_KNOWN_TEXTS = 0.5  # share of the texts of a data set; a few short ones are in every other


def train(args: ClassifierArguments, run: RunFolder, data: ClassifierData, dry_run: bool) -> None:
    """Trains a classifier, calibrates it, and measures it on held-out texts.

    Args:
        dry_run: show the data and check that the model loads, and write nothing.
    """
    show_data(args, data)
    text_classifier.hide_warnings()
    settings = {key: read_default("trainer", key) for key in ("save_strategy", "save_total_limit")} | args.trainer
    save_total_limit = settings.pop("save_total_limit")
    training_arguments = text_classifier.build_training_arguments(settings, args.output_dir, args.seed)
    names = args.label_set.names
    model, tokenizer = text_classifier.load_for_training(args.base_model, names, args.seed, args.frozen_layers)
    identity = {"arguments": run.arguments, "weights": run.identify_weights(downloaded=True), "data": data.digest()}
    checkpointing.check_run_identity(run, identity)
    if dry_run:
        return

    run.start()
    examples, data_weights = data.list_train_examples()
    class_ids = np.array(text_classifier.list_class_ids(examples, model))
    weights = weighted_classifier.compute_weights(class_ids, np.array(data_weights), args.label_balance)
    trainer = weighted_classifier.build_trainer(
        model, tokenizer, examples, weights.tolist(), training_arguments, identity, save_total_limit
    )
    weighted_classifier.train(trainer)
    calibration = calibrate(args, trainer, tokenizer, data.calibration) if args.calibration else None
    quality = measure(args, trainer, tokenizer, calibration, data.held_out)
    folder = run.path / "classifier"
    text_classifier.save_classifier(model, tokenizer, folder)
    if calibration:
        write_calibration(calibration, folder)
    write_quality(quality, folder)
    run.write_json("metrics.json", list_metrics(quality) | list_skipped_metrics(args, data))
    show_quality(quality)
    print(f"done: the classifier is in {folder}")


def show_data(args: ClassifierArguments, data: ClassifierData) -> None:
    """Prints how many texts there are, and warns of texts that are in two data sets that should differ."""
    counts = [f"{name} {len(list_examples(rows))}" for name, rows in data.held_out.items()]
    print(f"texts to learn from {len(list_examples(data.train_rows))}; held out: {', '.join(counts)}")
    show_skipped(data.skipped)
    show_limits({source.key: source.data for source in list_sources(args) if source.data})
    for name, rows in data.held_out.items():
        show_known(f"eval_datasets.{name}", rows, "datasets", data.train_rows)
        show_known(f"eval_datasets.{name}", rows, "calibration.dataset", data.calibration)
    show_known("calibration.dataset", data.calibration, "datasets", data.train_rows)


def show_known(key: str, rows: list[ExampleRow], other_key: str, others: Iterable[ExampleRow]) -> None:
    """Warns about held-out rows that were also learned from: figures on them say nothing about new text."""
    learned = set(others)
    known = [row for row in rows if row in learned]
    if any(len(row) > 1 for row in known) or len(known) > MIN_KNOWN_TEXTS * len(rows):
        show_warning(f"warning: {len(known)} of {len(rows)} rows of {key} are also in {other_key}; name other rows")


def calibrate(
    args: ClassifierArguments, trainer: Trainer, tokenizer: PreTrainedTokenizerBase, rows: list[ExampleRow]
) -> Calibration:
    examples = list_examples(rows)
    print(f"calibrating on {len(examples)} texts …", flush=True)
    logits = text_classifier.compute_logits(trainer, tokenizer, examples)
    gold = np.array(text_classifier.list_class_ids(examples, trainer.model))
    return fit_calibration(logits, gold, args.labels, args.calibration.label_balance)


def measure(
    args: ClassifierArguments,
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    calibration: Calibration | None,
    held_out: dict[str, list[ExampleRow]],
) -> ClassifierQuality:
    """Classifies the held-out texts as the programs that use the classifier do."""
    data_sets = {}
    for name, rows in held_out.items():
        examples = list_examples(rows)
        print(f"classifying {len(examples)} texts of {name} …", flush=True)
        logits = text_classifier.compute_logits(trainer, tokenizer, examples)
        probabilities = calibration.compute_probabilities(logits) if calibration else softmax(logits, axis=1)
        gold = np.array(text_classifier.list_class_ids(examples, trainer.model))
        row_numbers = np.repeat(range(len(rows)), list(map(len, rows)))
        data_sets[name] = measure_dataset(gold, probabilities, row_numbers, args.seed)
    return ClassifierQuality(args.label_set.names, data_sets)


def show_quality(quality: ClassifierQuality) -> None:
    """Prints, for each data set, the averages and how well each of its labels is recognized."""
    for name, data in quality.data_sets.items():
        averages = [
            f"{title} {format_estimate(each)}"
            for title, each in (
                ("accuracy", data.accuracy),
                ("mean recall", data.macro_recall),
                ("macro F1", data.macro_f1),
            )
        ]
        print(
            f"{name}, {data.texts} texts: {', '.join(averages)}; always the most frequent label: accuracy "
            f"{data.majority_accuracy:.3f}; calibration error {data.calibration_error:.3f}"
        )
        table = Table(show_edge=False)
        for heading in ("label", "texts", "recall", "precision", "F1"):
            table.add_column(heading, justify="left" if heading == "label" else "right")
        labels = [each for each in quality.measure_labels(name) if each.count]
        for each in labels:
            shares = ("–" if share is None else f"{share:.3f}" for share in (each.precision, each.f1))
            table.add_row(Text(each.label), str(each.count), format_estimate(each.recall), *shares)
        console.print(table)
        if warning := describe_low_accuracy(name, data, labels):
            show_warning(f"warning: {warning}")


def format_estimate(estimate: tuple[float, float, float]) -> str:
    value, low, high = estimate
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def describe_low_accuracy(name: str, data: DatasetQuality, labels: list[LabelQuality]) -> str | None:
    """What to say of a classifier that is right no more often than always the most frequent label; else None.

    Args:
        name: of the data set. labels: those that its texts have.
    """
    accuracy, recall = data.accuracy[0], data.macro_recall[0]
    if accuracy > data.majority_accuracy:
        return None
    most_frequent, majority_recall = max(labels, key=lambda each: each.count).label, 1 / len(labels)
    if recall > majority_recall:
        conclusion = f"it recognizes other labels, but takes too many texts that are {most_frequent} for them"
    else:
        conclusion = (
            "nothing shows that the classifier tells the labels apart. Label more texts, train longer, or change "
            "trainer.learning_rate, frozen_layers or calibration.label_balance"
        )
    return (
        f"the accuracy on {name} ({accuracy:.1%}) is not better than that of always answering {most_frequent}, the "
        f"most frequent label ({data.majority_accuracy:.1%}). The mean recall of the labels is {recall:.1%} instead of "
        f"{majority_recall:.1%}: {conclusion}"
    )
