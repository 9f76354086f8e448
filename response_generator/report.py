"""Pictures and tables from a run's own files; needs no model."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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
