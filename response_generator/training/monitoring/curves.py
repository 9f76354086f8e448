"""The curves of a training run: training.png, and one picture per panel for report.html."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from response_generator.reporting.pictures import COLORS, escape_mathtext
from response_generator.training.dpo_loss_types import LN_2

HELD_OUT = "eval_"
MIN_WINDOW_LINES = 3
SMOOTHED_SHARE = 1 / 15  # of the log lines, in the window of the running mean
WARNING_COLOR = "#b3361e"

Log = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Panel:
    """`metrics`: `{TRL's name: label}`. `line`: a height at which a dashed line is drawn. `limits`: of the y axis."""

    title: str
    metrics: dict[str, str]
    line: float | None = None
    limits: tuple[float, float] | None = None


def list_dpo_panels(has_plain_loss: bool) -> list[Panel]:
    """The panels of DPO. The line in the panel of the loss is where the plain DPO loss starts."""
    return [
        Panel("loss", {"loss": "training", "eval_loss": "held out"}, LN_2 if has_plain_loss else None),
        Panel("implicit rewards", {"rewards/chosen": "chosen", "rewards/rejected": "rejected"}, 0.0),
        Panel("reward margin", {"rewards/margins": "training", "eval_rewards/margins": "held out"}, 0.0),
        Panel(
            "reward accuracy",
            {"rewards/accuracies": "training", "eval_rewards/accuracies": "held out"},
            0.5,
            (-0.02, 1.02),
        ),
        Panel("log-probability of the replies (nats)", {"logps/chosen": "chosen", "logps/rejected": "rejected"}),
        Panel("learning rate", {"learning_rate": "training"}),
    ]


SFT_PANELS = [
    Panel("loss (nats a token)", {"loss": "training", "eval_loss": "held out"}),
    Panel("token accuracy", {"mean_token_accuracy": "training", "eval_mean_token_accuracy": "held out"}),
    Panel("gradient norm", {"grad_norm": "training"}),
    Panel("learning rate", {"learning_rate": "training"}),
]


def count_window_lines(log: Log) -> int:
    """The number of log lines that the running mean averages."""
    return max(MIN_WINDOW_LINES, round(SMOOTHED_SHARE * sum("loss" in entry for entry in log)))


def describe_window(log: Log) -> str:
    return f"thin: each log line; thick: mean of the last {count_window_lines(log)} log lines"


def draw_all(log: Log, panels: Sequence[Panel], warnings: Log, title: str) -> Figure:
    """All panels in two rows."""
    columns = len(panels) // 2
    picture = Figure(figsize=(14 * columns / 3, 7.4), layout="constrained")
    for axes, panel in zip(picture.subplots(2, columns).flat, panels, strict=True):
        draw_panel(axes, log, panel, warnings)
    picture.suptitle(f"{escape_mathtext(title)}   ({describe_window(log)})", fontsize=11)
    return picture


def draw_one(log: Log, panel: Panel, warnings: Log) -> Figure:
    """A picture of one panel, small enough for a phone."""
    picture = Figure(figsize=(4.6, 3), layout="constrained")
    draw_panel(picture.subplots(), log, panel, warnings)
    return picture


def draw_panel(axes: Axes, log: Log, panel: Panel, warnings: Log) -> None:
    """Each metric against the steps, with its running mean; a numbered line at the step of each warning."""
    window = count_window_lines(log)
    for number, (metric, label) in enumerate(panel.metrics.items()):
        points = [(entry["step"], entry[metric]) for entry in log if metric in entry]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        color = COLORS[(2, 1)[number]]
        if metric.startswith(HELD_OUT):
            axes.plot(steps, values, color=color, label=label, marker="o", markersize=4)
        elif metric == "learning_rate":
            axes.plot(steps, values, color=color)
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        else:
            axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.55)
            axes.plot(steps, running_mean(values, window), color=color, linewidth=2, label=label)
    if panel.line is not None:
        axes.axhline(panel.line, color="grey", linewidth=0.8, linestyle="--")
    for number, warning in enumerate(warnings, 1):
        axes.axvline(warning["step"], color=WARNING_COLOR, linewidth=1, linestyle=":")
        axes.annotate(
            str(number), (warning["step"], 1), xycoords=("data", "axes fraction"), color=WARNING_COLOR, va="bottom"
        )
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if panel.limits:
        axes.set_ylim(*panel.limits)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9, frameon=False)


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those before it, `window` values in all, fewer at the start."""
    parts = [values[max(0, end - window) : end] for end in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


def describe_panel(log: Log, panel: Panel) -> str:
    """The panel in words: the first and the last value of each metric."""
    texts = []
    for metric, label in panel.metrics.items():
        values = [entry[metric] for entry in log if metric in entry]
        if values:
            texts.append(f"{label} from {values[0]:.3g} to {values[-1]:.3g}")
    return f"{panel.title} against steps: {', '.join(texts) or 'nothing was logged'}"
