"""The plot of the rounds: the share of followed targets against each price, with the limits."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from response_generator.config.rounds.rounds_schema import StopArguments
from response_generator.reporting.pictures import COLORS, DARK_COLOR, WIDTH, Plot
from response_generator.rounds.limits import GAIN, PRICES, RATIO, Price, Round

COLUMNS, PANEL_HEIGHT = 3, 3.3  # inches
SPREAD_SHARE = 0.12  # of an axis that is left free at each end


class BestOf(NamedTuple):
    """The best of several replies of the first adapter: " best of 6", and the share of targets that it follows."""

    title: str
    accuracy: float


def draw_rounds(stop: StopArguments, rounds: Sequence[Round], best_of: BestOf | None) -> Plot:
    prices = [price for price in PRICES if all(price in each.list_prices() for each in rounds)]
    columns = min(COLUMNS, len(prices))
    rows = math.ceil(len(prices) / columns)
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in panels.flat[len(prices) :]:
        axes.remove()
    for axes, price in zip(panels.flat, prices, strict=False):
        draw_panel(axes, price, getattr(stop, price.limit), rounds, best_of)
    for axes in panels[:, 0]:
        axes.set_ylabel("targets followed (%)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return Plot("rounds", "share of followed targets against the price, by round, with the limits", figure)


def draw_panel(axes: Axes, price: Price, limit: float | None, rounds: Sequence[Round], best_of: BestOf | None) -> None:
    first, scale = rounds[0], 100 if price.in_percent else 1
    costs = [first.start[price.metric] * scale, *(each.adapter[price.metric] * scale for each in rounds)]
    shares = [first.start[GAIN] * 100, *(each.adapter[GAIN] * 100 for each in rounds)]
    axes.plot(costs, shares, "-", color=COLORS[0], linewidth=1, zorder=1)
    axes.plot(costs[:1], shares[:1], "s", color=DARK_COLOR, label="start")
    axes.plot(costs[1:], shares[1:], "o", color=COLORS[1], label="after each round")
    for number, place in enumerate(zip(costs, shares, strict=True)):
        if number:
            axes.annotate(str(number), place, (6, 6), textcoords="offset points")
    if best_of:
        label = f"{best_of.title.strip()} of the start, without training"
        axes.axhline(best_of.accuracy * 100, color=COLORS[2], linestyle="--", linewidth=1.2, label=label)
    low, high = min(costs), max(costs)
    if limit is not None:
        edge = find_edge(price, first.start[price.metric], limit) * scale
        low, high = min(low, edge), max(high, edge)
    margin = (high - low) * SPREAD_SHARE or 0.5
    axes.set_xlim(low - margin, high + margin)
    if limit is not None:
        beyond = (edge, high + margin) if price.may_rise else (low - margin, edge)
        axes.axvspan(*beyond, color=COLORS[4], alpha=0.15, linewidth=0, label="beyond the limit")
    axes.margins(y=SPREAD_SHARE)
    axes.set_xlabel(price.title + (" (%)" if price.in_percent else ""))
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def find_edge(price: Price, start: float, limit: float) -> float:
    """The value at which a limit is reached."""
    return start + (limit - 1) * abs(start) if price.form == RATIO else start + limit
