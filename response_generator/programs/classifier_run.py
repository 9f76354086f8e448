"""A run that trains a classifier of labels, from its dialogues to the accuracy."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from response_generator.cli.data_preview import console, show_warning
from response_generator.config.training_schema import ClassifierArguments
from response_generator.data.datasets import Dialogue, Skipped
from response_generator.runs.run_folder import RunFolder
from response_generator.training import text_classifier
from response_generator.training.turns import list_turns

SHOWN = ("precision", "recall", "f1", "examples")


def train(args: ClassifierArguments, run: RunFolder, rows: list[tuple[list[Dialogue], Skipped]], dry_run: bool) -> None:
    """Trains a classifier on the turns of dialogues, and measures it on held-out turns.

    Args:
        rows: of `dataset`, `extra_dataset` and `eval_dataset`, as `read_datasets` returns them.
        dry_run: show the data and check that the model loads, and write nothing.
    """
    (dialogues, _), (extra_dialogues, _), (held_out, _) = rows
    train_turns = list_turns([*dialogues, *extra_dialogues])
    turns = list_turns(held_out)
    last_replies = [(dialogue.gold_response, dialogue.target_emotion) for dialogue in held_out]
    print(f"turns to learn from {len(train_turns)}; held out: {len(turns)} turns, {len(last_replies)} last replies")
    show_known([*dialogues, *extra_dialogues], held_out)
    text_classifier.hide_warnings()
    training_arguments = text_classifier.build_training_arguments(args.trainer, args.output_dir, args.seed)
    names = args.label_set.names
    model, tokenizer = text_classifier.load_for_training(args.base_model, names, args.seed, args.frozen_layers)
    if dry_run:
        return

    run.start()
    trainer = text_classifier.fit_classifier(model, tokenizer, train_turns, training_arguments, "turns")
    print("classifying the held-out turns …", flush=True)
    metrics = text_classifier.measure_classifier(trainer, tokenizer, turns)
    for name, value in text_classifier.measure_classifier(trainer, tokenizer, last_replies).items():
        metrics[f"last_replies/{name}"] = value
    text_classifier.save_classifier(model, tokenizer, run.path / "classifier")
    run.write_json("metrics.json", metrics)
    show_metrics(run, metrics, names)


def show_known(train: Iterable[Dialogue], held_out: Sequence[Dialogue]) -> None:
    """Warns about held-out dialogues that are also learned from: the accuracy on them says nothing about new text."""
    learned = {tuple(list_turns([dialogue])) for dialogue in train}
    known = sum(tuple(list_turns([dialogue])) in learned for dialogue in held_out)
    if known:
        show_warning(
            f"warning: {known} of {len(held_out)} held-out dialogues are also training dialogues; name another "
            f"eval_dataset"
        )


def show_metrics(run: RunFolder, metrics: dict[str, float], labels: tuple[str, ...]) -> None:
    """Prints the accuracy of all turns and of last replies, and for each label how well it is recognized."""
    for prefix, title in (("", "all held-out turns"), ("last_replies/", "last replies")):
        accuracy, majority, f1 = (metrics[prefix + name] for name in ("accuracy", "majority_accuracy", "macro_f1"))
        print(f"{title}: accuracy {accuracy:.1%} (always the most frequent label: {majority:.1%}), macro F1 {f1:.3f}")
        table = Table(show_edge=False)
        for heading in ("label", *SHOWN):
            table.add_column(heading, justify="left" if heading == "label" else "right")
        for label in labels:
            if f"{prefix}examples/{label}" in metrics:
                values = [metrics[f"{prefix}{name}/{label}"] for name in SHOWN]
                table.add_row(
                    Text(label), *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)
                )
        console.print(table)
    warning = describe_low_accuracy(metrics)
    if warning:
        show_warning(f"warning: {warning}")
    print(f"done: the classifier is in {run.path / 'classifier'}")


def describe_low_accuracy(metrics: dict[str, float]) -> str | None:
    """What to say of a classifier that is right no more often than always the most frequent label; else None."""
    accuracy, majority, recall = (metrics[name] for name in ("accuracy", "majority_accuracy", "macro_recall"))
    if accuracy > majority:
        return None
    counts = {name.removeprefix("examples/"): count for name, count in metrics.items() if name.startswith("examples/")}
    most_frequent, majority_recall = max(counts, key=counts.get), 1 / len(counts)
    if recall > majority_recall:
        conclusion = f"it recognizes other labels, but takes too many turns that are {most_frequent} for them"
    else:
        conclusion = (
            "nothing shows that the classifier tells the labels apart. Label more dialogues, train longer, or change "
            "trainer.learning_rate or frozen_layers"
        )
    return (
        f"the accuracy on all held-out turns ({accuracy:.1%}) is not better than that of always answering "
        f"{most_frequent}, the most frequent label ({majority:.1%}). The mean recall of the labels is {recall:.1%} "
        f"instead of {majority_recall:.1%}: {conclusion}"
    )
