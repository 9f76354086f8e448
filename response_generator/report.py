"""Pictures and tables from a run's own files; needs no model."""

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

TRAINING_FIGURES = {
    "start_loss": "loss before the first step (ln 2 = 0.6931)",
    "train_loss": "loss, mean of the logged steps",
    "rewards/margins": "reward margin, last logged",
    "rewards/accuracies": "chosen preferred, last logged",
    "eval_loss": "held-out loss",
    "eval_rewards/margins": "held-out reward margin",
    "eval_rewards/accuracies": "held-out: chosen preferred",
    "pairs_per_second": "pairs a second",
    "peak_memory_gb": "peak memory (GB)",
}
TRAINING_PANELS = (
    ("loss", ("loss", "eval_loss")),
    ("implicit rewards", ("rewards/chosen", "rewards/rejected")),
    ("reward margin", ("rewards/margins", "eval_rewards/margins")),
    ("accuracy (chosen preferred)", ("rewards/accuracies", "eval_rewards/accuracies")),
    ("log-probability of the reply (nats)", ("logps/chosen", "logps/rejected")),
    ("learning rate", ("learning_rate",)),
)


def read_log(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def show_training(metrics: dict[str, float]) -> None:
    table = Table(title="DPO", title_justify="left", show_header=False)
    for name, words in TRAINING_FIGURES.items():
        if name in metrics:
            table.add_row(words, f"{metrics[name]:.4f}" if "loss" in name else f"{metrics[name]:.3f}")
    Console().print(table)


def model_card(arguments: dict[str, Any], metrics: dict[str, float]) -> str:
    """Markdown with the metadata the hub reads: what was trained, from what, with which result."""
    figures = "".join(
        f"| {words} | {metrics[name]:.4f} |\n" for name, words in TRAINING_FIGURES.items() if name in metrics
    )
    settings = "".join(f"| {key} | {value} |\n" for key, value in arguments["dpo"].items())
    return (
        f"---\nbase_model: {arguments['base_model']}\nlibrary_name: peft\ntags: [dpo, lora, trl]\n---\n"
        f"# Emotion-conditioned response generator, aligned with DPO\n\n"
        f"LoRA adapter, trained from `{arguments['adapter']}` on `{arguments['dataset']['path']}`. Prompts are written "
        f"by the chat template of this folder's tokenizer, with the wanted emotion as `target_emotion`.\n\n"
        f"| result | |\n|---|---|\n{figures}\n| DPO setting | |\n|---|---|\n{settings}"
    )


def draw_training(log: list[dict], picture: Path) -> None:
    """Draws the course of a training run: TRL's metrics against optimizer steps."""
    figure, axes = plt.subplots(2, 3, figsize=(14, 7), layout="constrained")
    for panel, (title, metrics) in zip(axes.flat, TRAINING_PANELS, strict=True):
        for metric in metrics:
            points = [(entry["step"], entry[metric]) for entry in log if metric in entry]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=metric)
        panel.set_title(title)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    axes.flat[0].axhline(0.6931, color="grey", linewidth=0.8, linestyle="--")
    axes.flat[3].set_ylim(-0.02, 1.02)
    figure.savefig(picture, dpi=110)
    plt.close(figure)
