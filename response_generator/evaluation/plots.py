"""The pictures of an evaluation: as PNG files, and as SVG for the page."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from response_generator.constants import EMOTIONS
from response_generator.evaluation.comparison import REFERENCE, REFERENCE_WORDS, Comparison, Estimate
from response_generator.evaluation.metrics import confusions
from response_generator.runs import atomic_files

matplotlib.rcParams["svg.hashsalt"] = "evaluation"  # the same figures give the same bytes
COLORS = ("#7a8ca3", "#d9622b", "#2b8a6e", "#8a4fbf", "#b3892b", "#3b6fd4")
REFERENCE_COLOR = "#333333"


def draw(comparison: Comparison, folder: Path) -> dict[str, bytes]:
    """Writes emotions.png, confusion.png, quality.png, lengths.png and, where pairs were measured, margins.png.

    Returns:
        `{name: SVG}` of the same pictures.
    """
    pictures = {
        "emotions": emotions(comparison),
        "confusion": confusion(comparison),
        "quality": quality(comparison),
        "lengths": lengths(comparison),
    }
    if len(comparison.margins):
        pictures["margins"] = margins(comparison)
    vectors = {}
    for name, picture in pictures.items():
        atomic_files.atomic_write(folder / f"{name}.png", rendered(picture, "png", {"Software": None}))
        vectors[name] = rendered(picture, "svg", {"Date": None})
    return vectors


def rendered(picture: Picture, form: str, metadata: dict[str, None]) -> bytes:
    content = io.BytesIO()
    picture.savefig(content, format=form, dpi=110, metadata=metadata)
    return content.getvalue()


def plain(name: str) -> str:
    """A folder's name as it is: matplotlib takes what stands between $ for a formula, and hides names like "_run"."""
    name = name.replace("$", r"\$")
    return f"./{name}" if name.startswith("_") else name


def emotions(comparison: Comparison) -> Picture:
    picture = Picture(figsize=(10, 4.5), layout="constrained")
    axes = picture.subplots()
    present = [emotion for emotion in EMOTIONS if comparison.asking(emotion)]
    names = ["emotion_accuracy", *(f"emotion/{emotion}/recall" for emotion in present)]
    bars(axes, comparison, names)
    labels = [f"all\nn = {comparison.prompts}"]
    labels += [f"{emotion}\nn = {comparison.asking(emotion)}" for emotion in present]
    axes.set_xticks(range(len(names)), labels)
    axes.set_title("target emotion followed (%, 95 % interval)", loc="left")
    return picture


def quality(comparison: Comparison) -> Picture:
    picture = Picture(figsize=(10, 4), layout="constrained")
    axes = picture.subplots()
    labels = comparison.gibberish_labels
    names = ["complete", "stopped_by_limit", *(f"gibberish/{label}" for label in labels)]
    bars(axes, comparison, names)
    axes.set_xticks(range(len(names)), ["complete", "stopped by\ntoken limit", *labels])
    axes.set_title("form of the replies, and labels of the gibberish detector (%, 95 % interval)", loc="left")
    return picture


def bars(axes: Axes, comparison: Comparison, names: list[str]) -> None:
    """A bar a model and figure, with its interval; the references as a line across them."""
    width = 0.8 / len(comparison.models)
    for number, model in enumerate(comparison.models):
        found = [comparison.figures[model].get(name, Estimate(0.0)) for name in names]
        places = [place + (number - (len(comparison.models) - 1) / 2) * width for place in range(len(names))]
        heights = np.array([figure.value for figure in found]) * 100
        lows = np.array([figure.value if figure.low is None else figure.low for figure in found]) * 100
        highs = np.array([figure.value if figure.high is None else figure.high for figure in found]) * 100
        axes.bar(
            places,
            heights,
            width,
            label=plain(model),
            color=COLORS[number % len(COLORS)],
            yerr=(np.maximum(heights - lows, 0), np.maximum(highs - heights, 0)),
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#222222"},
        )
    reached = False
    for place, name in enumerate(names):
        if name in comparison.figures[REFERENCE]:
            value = comparison.figures[REFERENCE][name].value * 100
            label = None if reached else REFERENCE_WORDS
            axes.plot((place - 0.45, place + 0.45), (value, value), "--", color=REFERENCE_COLOR, lw=1.2, label=label)
            reached = True
    axes.set_ylim(0, 119)  # room for the legend above the longest bar
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="upper right", ncols=len(comparison.models) + 1, frameon=False)


def confusion(comparison: Comparison) -> Picture:
    """Shares of each target emotion's replies, side by side, with the references' at the end."""
    everyone = comparison.rows | {REFERENCE_WORDS: comparison.references}
    picture = Picture(figsize=(4.4 * len(everyone), 4.8), layout="constrained")
    for axes, (model, rows) in zip(picture.subplots(1, len(everyone), squeeze=False)[0], everyone.items(), strict=True):
        counts = confusions(rows)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for target, predicted in np.argwhere(counts > 0):
            color = "white" if shares[target, predicted] > 0.6 else "black"
            axes.text(predicted, target, counts[target, predicted], ha="center", va="center", color=color, fontsize=9)
        axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
        axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
        axes.set_title(plain(model))
        axes.set_xlabel("what the classifier reads")
    picture.axes[0].set_ylabel("target emotion")
    return picture


def lengths(comparison: Comparison) -> Picture:
    picture = Picture(figsize=(10, 3.8), layout="constrained")
    axes = picture.subplots()
    counts = {model: [row["new_tokens"] for row in rows] for model, rows in comparison.rows.items()}
    counts[REFERENCE_WORDS] = [row["reference_tokens"] for row in comparison.references]
    longest = max(max(values) for values in counts.values())
    edges = np.linspace(0, longest + 1, min(40, longest + 1) + 1)
    for number, (model, values) in enumerate(counts.items()):
        is_reference = number == len(comparison.models)
        color = REFERENCE_COLOR if is_reference else COLORS[number % len(COLORS)]
        share = np.full(len(values), 100 / len(values))
        style = {"linestyle": "--"} if is_reference else {"linewidth": 1.8}
        axes.hist(values, edges, weights=share, histtype="step", label=plain(model), color=color, **style)
    axes.set_xlabel("tokens, EOS included")
    axes.set_ylabel("% of replies")
    axes.set_title("length of the replies", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return picture


def margins(comparison: Comparison) -> Picture:
    picture = Picture(figsize=(10, 3.6), layout="constrained")
    axes = picture.subplots()
    axes.hist(comparison.margins, bins=min(40, max(5, len(comparison.margins) // 4)), color=COLORS[1], alpha=0.8)
    axes.axvline(0, color=REFERENCE_COLOR, linewidth=1)
    for name, style in (("median", "-"), ("mean", "--")):
        value = comparison.preference[f"margin_{name}"].value
        axes.axvline(value, color=COLORS[0], linestyle=style, label=f"{name} {value:.2f}")
    axes.set_xlabel("reward margin of chosen over rejected; above 0: chosen preferred")
    axes.set_ylabel("pairs")
    axes.set_title(f"implicit reward on {len(comparison.margins)} held-out pairs", loc="left")
    axes.legend(frameon=False)
    return picture
