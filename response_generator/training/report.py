"""The results of a training run as a table, a picture and a model card. Needs no model."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from response_generator.config.sources import is_local, split_revision, strip_local_folders
from response_generator.reporting.markdown import format_table
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.tracking import Tracker
from response_generator.training.callbacks import read_log

DPO_TITLES = {
    "initial_loss": "loss before the first step (ln 2 = 0.6931)",
    "train_loss": "loss, mean of the logged steps",
    "rewards/margins": "reward margin, last logged",
    "rewards/accuracies": "reward accuracy, last logged",
    "best_step": "step with the best evaluation, whose adapter was kept",
    "eval_loss": "held-out loss",
    "eval_rewards/margins": "held-out reward margin",
    "eval_rewards/accuracies": "held-out reward accuracy",
    "pairs_per_second": "pairs per second",
    "peak_memory_gb": "peak memory (GB)",
}
DPO_PANELS = (
    ("loss", ("loss", "eval_loss")),
    ("implicit rewards", ("rewards/chosen", "rewards/rejected")),
    ("reward margin", ("rewards/margins", "eval_rewards/margins")),
    ("reward accuracy", ("rewards/accuracies", "eval_rewards/accuracies")),
    ("log-probability of the reply (nats)", ("logps/chosen", "logps/rejected")),
    ("learning rate", ("learning_rate",)),
)
SFT_TITLES = {
    "initial_loss": "loss before the first step, on a few dialogues",
    "train_loss": "loss, mean of the logged steps",
    "best_step": "step with the best evaluation, whose adapter was kept",
    "eval_loss": "held-out loss",
    "eval_mean_token_accuracy": "held-out token accuracy",
    "dialogues_per_second": "dialogues per second",
    "peak_memory_gb": "peak memory (GB)",
}
SFT_PANELS = (
    ("loss (nats a token)", ("loss", "eval_loss")),
    ("token accuracy", ("mean_token_accuracy", "eval_mean_token_accuracy")),
    ("gradient norm", ("grad_norm",)),
    ("learning rate", ("learning_rate",)),
)


def write_results(
    method: str,
    run: RunFolder,
    rows: int,
    metrics: dict[str, float],
    tracker: Tracker,
    warnings: Iterable[str] = (),
) -> None:
    """Writes the curves, the model card and metrics.json, which marks the run as finished, and prints the metrics.

    Args:
        method: "DPO" or "SFT".
        rows: the number of pairs or dialogues that were trained on.
        warnings: of the health checks.
    """
    titles, panels = (DPO_TITLES, DPO_PANELS) if method == "DPO" else (SFT_TITLES, SFT_PANELS)
    picture = run.path / "training.png"
    plot_training(read_log(run.path / "log.jsonl"), panels, picture)
    write_model_card(run.path / "adapter", run.arguments, metrics, rows, picture)
    run.write_json("metrics.json", metrics)
    show_training(method, titles, metrics, warnings)
    tracker.log_image("training", picture)
    tracker.summarize(metrics)
    tracker.finish()
    print(f"done: the adapter is in {run.path / 'adapter'}")


def show_training(method: str, titles: dict[str, str], metrics: dict[str, float], warnings: Iterable[str] = ()) -> None:
    """Prints the metrics that have a title, and the warnings."""
    table = Table(title=method, title_justify="left", show_header=False)
    for name, title in titles.items():
        if name in metrics:
            table.add_row(title, format_metric(name, metrics[name]))
    console = Console()
    console.print(table)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def format_metric(name: str, value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}" if "loss" in name else f"{value:.3f}"


def write_model_card(
    folder: Path, arguments: dict[str, Any], metrics: dict[str, float], rows: int, picture: Path
) -> None:
    """Writes README.md, with the metadata that the hub reads, and the curves into the adapter's folder.

    Args:
        rows: the number of pairs or dialogues that were trained on.
    """
    shutil.copy(picture, folder / picture.name)
    method, titles, unit = ("DPO", DPO_TITLES, "pairs") if "dpo" in arguments else ("SFT", SFT_TITLES, "dialogues")
    start = f"`{strip_local_folders(arguments['adapter'])}`" if arguments["adapter"] else "a new LoRA"
    figures = format_table(
        {words: format_metric(name, metrics[name]) for name, words in titles.items() if name in metrics}
    )
    # The hub accepts only hub ids as base_model, no folders.
    repository = split_revision(arguments["base_model"])[0]
    base = "" if is_local(repository) else f"base_model: {repository}\n"
    dataset, held_out = arguments["dataset"], arguments["eval_dataset"]
    data = {
        unit: f"{rows} of `{strip_local_folders(dataset['path'])}`, split {dataset['split']}",
        "held out": f"`{strip_local_folders(held_out['path'])}`, split {held_out['split']}" if held_out else "none",
        "base": f"`{strip_local_folders(arguments['base_model'])}`, {arguments['from_pretrained']}",
        "seed": arguments["seed"],
    }
    if method == "DPO":
        reference = arguments["reference_adapter"]
        reference = strip_local_folders(reference) if reference else "a frozen copy of what training started from"
        data["reference"] = reference
    card = (
        f"---\n{base}library_name: peft\npipeline_tag: text-generation\n"
        f"tags: [{method.lower()}, lora, trl]\n---\n"
        f"# Emotion-conditioned response generator, {'aligned with DPO' if method == 'DPO' else 'trained with SFT'}\n\n"
        f"LoRA adapter, trained from {start}. Prompts are written by the chat template of this folder's tokenizer, "
        f"with the wanted emotion as `target_emotion`.\n\n"
        f"## Result\n\n{figures}\n![curves of the training run]({picture.name})\n\n"
        f"## Data and model\n\n{format_table(data)}\n## {method}\n\n{format_table(arguments[method.lower()])}"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def plot_training(log: list[dict], panels: tuple[tuple[str, tuple[str, ...]], ...], picture: Path) -> None:
    """Plots TRL's logged metrics against optimizer steps, in two rows of panels.

    Args:
        panels: the title of each panel, and the metrics in it.
    """
    columns = len(panels) // 2
    figure, axes = plt.subplots(2, columns, figsize=(14 * columns / 3, 7), layout="constrained")
    for panel, (title, metrics) in zip(axes.flat, panels, strict=True):
        for metric in metrics:
            points = [(entry["step"], entry[metric]) for entry in log if metric in entry]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=metric)
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        if panel.has_data():
            panel.legend(fontsize=8)
        if title == "loss":
            panel.axhline(0.6931, color="grey", linewidth=0.8, linestyle="--")
        if title == "reward accuracy":
            panel.set_ylim(-0.02, 1.02)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
