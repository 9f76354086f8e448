"""The plots of an evaluation, as PNG files and as SVG for report.html."""

import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from response_generator.evaluation.comparison import GOLD, GOLD_TITLE, Comparison
from response_generator.evaluation.metrics import FORM, GIBBERISH
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.metric_totals import count_confusion
from response_generator.reporting.pictures import COLORS, DARK_COLOR, WIDTH, Plot, escape_mathtext

TICK_LABEL_WIDTH = 13  # characters
MAX_MATRICES_IN_A_ROW = 3
MAX_UPRIGHT_LABELS = 10  # names of more labels would touch, and are turned
MAX_LABELS = 30  # in a plot; of more labels, the most frequent ones are shown
MAX_NAME_CHARACTERS = 20  # of a turned name
MIN_CELL_WIDTH, TICK_LABELS_WIDTH = 0.24, 1.2  # inches, of a confusion matrix


def draw_plots(comparison: Comparison) -> list[Plot]:
    """Emotions and confusion only where a classifier has found emotions, margins only where pairs were measured."""
    plots = []
    if comparison.has_emotions:
        noun = comparison.labels.noun
        confusion = f"target {noun} against predicted {noun}, for every model and for the gold replies"
        plots = [
            Plot("emotions", f"how often each model follows each target {noun}", plot_emotions(comparison)),
            Plot("confusion", confusion, plot_confusion(comparison)),
        ]
    has_gibberish = any(metric.section == GIBBERISH for metric in comparison.metrics.values())
    form = "form of the replies" + (", and the labels of the gibberish classifier" if has_gibberish else "")
    plots += [
        Plot("quality", form, plot_form(comparison)),
        Plot("lengths", "lengths of the replies and of the gold replies", plot_lengths(comparison)),
    ]
    if len(comparison.margins):
        plots.append(Plot("margins", "reward margins of the held-out preference pairs", plot_margins(comparison)))
    return plots


def plot_emotions(comparison: Comparison) -> Figure:
    picture = Figure(figsize=(WIDTH, 4.5), layout="constrained")
    axes = picture.subplots()
    present = [emotion for emotion in pick_labels(comparison) if comparison.num_prompts_with_target(emotion)]
    names = ["emotion_accuracy", *(f"emotion/{emotion}/recall" for emotion in present)]
    plot_bars(axes, comparison, names)
    prompts = {"all": comparison.prompts}
    prompts |= {emotion: comparison.num_prompts_with_target(emotion) for emotion in present}
    if len(prompts) <= MAX_UPRIGHT_LABELS:
        labels = [
            f"{escape_mathtext(textwrap.fill(name, TICK_LABEL_WIDTH))}\nn = {count}" for name, count in prompts.items()
        ]
        axes.set_xticks(range(len(names)), labels)
    else:
        labels = [f"{shorten_name(name)}, n = {count}" for name, count in prompts.items()]
        axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=9)
    title = f"target {comparison.labels.noun} followed (%, 95 % interval)"
    axes.set_title(title + describe_left_out(comparison), loc="left")
    return picture


def pick_labels(comparison: Comparison) -> list[str]:
    """The labels that are the target of most prompts, in their order: all of them if they are not too many."""
    names = comparison.labels.names
    found = sorted(names, key=comparison.num_prompts_with_target, reverse=True)[:MAX_LABELS]
    return [name for name in names if name in found]


def describe_left_out(comparison: Comparison) -> str:
    count = len(comparison.labels.names)
    return f", the {MAX_LABELS} most frequent of {count} labels" if count > MAX_LABELS else ""


def shorten_name(name: str) -> str:
    name = name if len(name) <= MAX_NAME_CHARACTERS else f"{name[: MAX_NAME_CHARACTERS - 1]}…"
    return escape_mathtext(name)


def plot_form(comparison: Comparison) -> Figure:
    picture = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = picture.subplots()
    shown = [
        metric for metric in comparison.metrics.values() if metric.section in (FORM, GIBBERISH) and metric.is_proportion
    ]
    plot_bars(axes, comparison, [metric.name for metric in shown])
    labels = [textwrap.fill(metric.title, TICK_LABEL_WIDTH, break_long_words=False) for metric in shown]
    axes.set_xticks(range(len(shown)), labels, fontsize=9)  # points; in the default size, neighbors touch
    axes.set_xlim(-0.5, len(shown) - 0.5)  # with wider margins, they do so as well
    has_gibberish = any(metric.section == GIBBERISH for metric in shown)
    labels = ", and labels of the gibberish classifier" if has_gibberish else ""
    axes.set_title(f"form of the replies{labels} (%, 95 % interval)", loc="left")
    return picture


def plot_bars(axes: Axes, comparison: Comparison, names: list[str]) -> None:
    """A bar for each model and metric, with its interval; the gold replies as a dashed line across them."""
    width = 0.8 / len(comparison.models)
    for number, model in enumerate(comparison.models):
        found = [comparison.estimates[model].get(name, Estimate(0.0)) for name in names]
        places = [place + (number - (len(comparison.models) - 1) / 2) * width for place in range(len(names))]
        heights = np.array([estimate.value for estimate in found]) * 100
        lows = np.array([each.value if each.low is None else each.low for each in found]) * 100
        highs = np.array([each.value if each.high is None else each.high for each in found]) * 100
        axes.bar(
            places,
            heights,
            width,
            label=escape_mathtext(model),
            color=COLORS[number % len(COLORS)],
            yerr=(np.maximum(heights - lows, 0), np.maximum(highs - heights, 0)),
            error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#222222"},
        )
    has_legend_entry = False
    for place, name in enumerate(names):
        if name in comparison.estimates[GOLD]:
            value = comparison.estimates[GOLD][name].value * 100
            label = None if has_legend_entry else GOLD_TITLE
            axes.plot((place - 0.45, place + 0.45), (value, value), "--", color=DARK_COLOR, lw=1.2, label=label)
            has_legend_entry = True
    axes.set_ylim(0, 119)  # room for the legend above the longest bar
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="upper right", ncols=len(comparison.models) + 1, frameon=False)


def plot_confusion(comparison: Comparison) -> Figure:
    """One confusion matrix per model and one of the gold replies, colored by the share of each target emotion."""
    everyone = comparison.rows | {GOLD_TITLE: comparison.gold_predictions}
    names = pick_labels(comparison)
    shown = [comparison.labels.names.index(name) for name in names]
    fitting = int((WIDTH - TICK_LABELS_WIDTH) / (MIN_CELL_WIDTH * len(names)))
    columns = max(1, min(len(everyone), MAX_MATRICES_IN_A_ROW, fitting))
    rows = math.ceil(len(everyone) / columns)
    picture = Figure(figsize=(WIDTH, (WIDTH / columns + 0.6) * rows), layout="constrained")
    places = picture.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in places.flat[len(everyone) :]:
        axes.remove()
    for axes, (model, predictions) in zip(places.flat, everyone.items(), strict=False):
        counts = count_confusion(predictions, comparison.labels)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        counts, shares = (each[np.ix_(shown, shown)] for each in (counts, shares))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for target, predicted in np.argwhere(counts > 0):
            color = "white" if shares[target, predicted] > 0.6 else "black"
            axes.text(predicted, target, counts[target, predicted], ha="center", va="center", color=color, fontsize=9)
        labels = [shorten_name(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), labels)
        axes.set_title(escape_mathtext(model) + describe_left_out(comparison))
        axes.set_xlabel(f"predicted {comparison.labels.noun}")
    for axes in places[:, 0]:
        axes.set_ylabel(f"target {comparison.labels.noun}")
    return picture


def plot_lengths(comparison: Comparison) -> Figure:
    picture = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axes = picture.subplots()
    everyone = comparison.rows | {GOLD_TITLE: comparison.gold_predictions}
    if comparison.has_one_token_count:
        unit = "tokens, including EOS"
        counts = {model: [row["new_tokens"] for row in rows] for model, rows in everyone.items()}
    else:
        unit = "characters"
        counts = {model: [len(row["response"]) for row in rows] for model, rows in everyone.items()}
    longest = max(max(values) for values in counts.values())
    edges = np.linspace(0, longest + 1, min(40, longest + 1) + 1)
    for number, (model, values) in enumerate(counts.items()):
        is_gold = number == len(comparison.models)
        color = DARK_COLOR if is_gold else COLORS[number % len(COLORS)]
        share = np.full(len(values), 100 / len(values))
        style = {"linestyle": "--"} if is_gold else {"linewidth": 1.8}
        axes.hist(values, edges, weights=share, histtype="step", label=escape_mathtext(model), color=color, **style)
    axes.set_xlabel(unit)
    axes.set_ylabel("% of replies")
    axes.set_title("length of the replies", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return picture


def plot_margins(comparison: Comparison) -> Figure:
    picture = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = picture.subplots()
    axes.hist(comparison.margins, bins=min(40, max(5, len(comparison.margins) // 4)), color=COLORS[1], alpha=0.8)
    axes.axvline(0, color=DARK_COLOR, linewidth=1)
    for name, style in (("median", "-"), ("mean", "--")):
        value = comparison.preference[f"margin_{name}"].value
        axes.axvline(value, color=COLORS[0], linestyle=style, label=f"{name} {value:.2f}")
    axes.set_xlabel("reward margin; above 0 chosen is preferred")
    axes.set_ylabel("pairs")
    axes.set_title(f"implicit reward on {len(comparison.margins)} held-out pairs", loc="left")
    axes.legend(frameon=False)
    return picture
