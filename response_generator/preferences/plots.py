"""The plots of preference data."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from response_generator.data.datasets import Pair
from response_generator.data.pair_text import get_reply_text
from response_generator.preferences.description import get_margins
from response_generator.reporting.pictures import COLORS, DARK_COLOR, WIDTH, Plot

MAX_BINS = 40


def draw_plots(pairs: list[Pair]) -> list[Plot]:
    """Margins and scores, if the pairs have scores, and lengths."""
    plots = []
    if len(get_margins(pairs)):
        plots = [
            Plot("margins", "histogram of chosen_score - rejected_score", draw_margins(pairs)),
            Plot("scores", "scores of the chosen and of the rejected replies", draw_scores(pairs)),
        ]
    description = "lengths of the chosen and of the rejected replies, in characters"
    return [*plots, Plot("lengths", description, draw_lengths(pairs))]


def draw_margins(pairs: list[Pair]) -> Figure:
    margins = get_margins(pairs)
    picture = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = picture.subplots()
    axes.hist(margins, bins=count_bins(len(margins)), color=COLORS[1], alpha=0.8)
    for name, value, style in (("median", np.median(margins), "-"), ("mean", np.mean(margins), "--")):
        axes.axvline(value, color=DARK_COLOR, linestyle=style, linewidth=1.2, label=f"{name} {value:.3f}")
    axes.plot([], [], " ", label=f"SD {np.std(margins):.3f}")
    axes.set_xlabel("chosen_score - rejected_score")
    axes.set_ylabel("pairs")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"margins of {len(margins)} pairs", loc="left")
    axes.legend(frameon=False)
    return picture


def draw_scores(pairs: list[Pair]) -> Figure:
    scored = [pair for pair in pairs if pair.margin is not None]
    scores = {"chosen": [pair.chosen_score for pair in scored], "rejected": [pair.rejected_score for pair in scored]}
    return draw_both(scores, "score", f"scores of {len(scored)} pairs")


def draw_lengths(pairs: list[Pair]) -> Figure:
    lengths = {
        "chosen": [len(get_reply_text(pair.chosen)) for pair in pairs],
        "rejected": [len(get_reply_text(pair.rejected)) for pair in pairs],
    }
    return draw_both(lengths, "characters", f"lengths of the replies of {len(pairs)} pairs")


def draw_both(values: dict[str, list[float]], label: str, title: str) -> Figure:
    """Histograms of a number of the chosen and of the rejected replies, with common bins."""
    picture = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = picture.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=count_bins(len(values["chosen"])))
    for (name, numbers), color in zip(values.items(), (COLORS[2], COLORS[0]), strict=True):
        axes.hist(numbers, edges, histtype="stepfilled", alpha=0.55, color=color, label=name)
    axes.set_xlabel(label)
    axes.set_ylabel("replies")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, loc="left")
    axes.legend(frameon=False)
    return picture


def count_bins(rows: int) -> int:
    return min(MAX_BINS, max(5, rows // 4))
