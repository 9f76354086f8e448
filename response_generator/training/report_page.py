"""report.html of a training run: key figures, curves with the warnings, data, sample replies and settings."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from response_generator.data.tokenization import LENGTH_COLUMNS, summarize_lengths
from response_generator.reporting.page import Card, to_data_url, write_page
from response_generator.reporting.pictures import render
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.training import curves
from response_generator.training.initial_loss import LOSS_PARTS
from response_generator.training.preparation import PreparedTraining
from response_generator.training.samples import POLICY, REFERENCE, get_turn_text
from response_generator.training.training_method import MetricCard, TrainingMethod

PAGE_FOLDER = Path(__file__).with_name("page")
MAX_SHOWN_REPLIES = 12  # to a prompt
LAST_QUARTER_NOTE = "mean of the last quarter of the steps"

Rows = list[tuple[str, str]]  # title, value


def write_report_page(
    run: RunFolder,
    title: str,
    prepared: PreparedTraining,
    metrics: dict[str, float],
    log: curves.Log,
    panels: Sequence[curves.Panel],
    warnings: curves.Log,
    samples: curves.Log,
    description: Sequence[tuple[str, str]],
) -> None:
    """Writes report.html into the run folder; for `description` see `report.write_results`."""
    pictures = {
        panel.title: (
            curves.describe_panel(log, panel),
            to_data_url(render(curves.draw_one(log, panel, warnings), "svg", {"Date": None})),
        )
        for panel in panels
    }
    write_page(
        run.path / "report.html",
        PAGE_FOLDER,
        title=title,
        summary=describe_run(prepared, metrics),
        cards=build_cards(prepared.method, metrics),
        warnings=warnings,
        unchecked_note=prepared.method.unchecked_note,
        window=curves.describe_window(log),
        pictures=pictures,
        samples=group_samples(samples),
        data=build_data_tables(prepared, metrics, description),
        length_columns=LENGTH_COLUMNS,
        max_shown_replies=MAX_SHOWN_REPLIES,
        settings=flatten(run.arguments),
        environment=run.flatten_environment(),
    )


def describe_run(prepared: PreparedTraining, metrics: dict[str, float]) -> str:
    text = f"{len(prepared.train.rows)} rows, {metrics['steps']} steps (epochs: {metrics['epoch']:.3g})"
    for name in prepared.method.summary_settings:
        text += f", {name.replace('_', ' ')} {getattr(prepared.config, name):g}"
    if "best_step" in metrics:
        text += f"; the adapter of step {metrics['best_step']} was kept"
    return text


def build_cards(method: TrainingMethod, metrics: dict[str, float]) -> list[Card]:
    cards = [build_metric_card(card, metrics) for card in method.cards]
    return [*cards, build_loss_card(metrics), build_speed_card(metrics, method.unit)]


def build_metric_card(card: MetricCard, metrics: dict[str, float]) -> Card:
    """The held-out value in large type, or that of the last quarter of training where nothing is held out."""
    held_out, training = metrics.get(f"eval_{card.metric}"), metrics.get(f"last_quarter/{card.metric}")
    shown = "not logged" if training is None else card.form.format(training)
    if held_out is None:
        return Card(card.title, shown, f"in training, {LAST_QUARTER_NOTE}")
    value = card.form.format(held_out)
    return Card(card.title, value, "of held-out rows, at the end", [("training, last quarter", shown)])


def build_loss_card(metrics: dict[str, float]) -> Card:
    last = metrics.get("last_quarter/loss")
    value = f"{metrics['initial_loss']:.3f}" + ("" if last is None else f" → {last:.3f}")
    rows = [
        (f"{name.removeprefix(LOSS_PARTS)}, at the start", f"{part:.3f}")
        for name, part in metrics.items()
        if name.startswith(LOSS_PARTS)
    ]
    if "eval_loss" in metrics:
        rows.append(("held out", f"{metrics['eval_loss']:.3f}"))
    return Card("loss", value, f"before the first step → {LAST_QUARTER_NOTE}", rows)


def build_speed_card(metrics: dict[str, float], unit: str) -> Card:
    speed = metrics.get(f"{unit}_per_second")
    rows = [("peak memory", f"{metrics['peak_memory_gb']:.1f} GB")]
    if speed is None:
        return Card("speed", "not measured", "training had ended in an earlier start of the run", rows)
    minutes, seconds = divmod(round(metrics["train_seconds"]), 60)
    rows.insert(0, ("training time", f"{minutes} min {seconds} s"))
    return Card("speed", f"{speed:.1f} {unit}/s", "evaluations and sample replies included", rows)


def group_samples(samples: curves.Log) -> list[dict[str, Any]]:
    """For each prompt its turns, the reference's reply and the policy's replies; equal replies of consecutive steps are
    one row."""
    prompts: dict[int, list[dict[str, Any]]] = {}
    for row in samples:
        prompts.setdefault(row["index"], []).append(row)
    return [
        {
            "target": rows[0]["target_emotion"],
            "turns": [(turn["role"], get_turn_text(turn)) for turn in rows[0]["prompt"]],
            "reference": next((row for row in rows if row["model"] == REFERENCE), None),
            "replies": spread(merge_equal([row for row in rows if row["model"] == POLICY]), MAX_SHOWN_REPLIES),
        }
        for rows in prompts.values()
    ]


def merge_equal(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged = []
    for _, group in groupby(rows, key=lambda row: (row["response"], row["new_tokens"])):
        first, *others = group
        steps = f"{first['step']} to {others[-1]['step']}" if others else str(first["step"])
        merged.append(first | {"steps": steps})
    return merged


def spread(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` of the rows at even distances, with the first and the last one."""
    if len(rows) <= count:
        return rows
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]


def build_data_tables(
    prepared: PreparedTraining, metrics: dict[str, float], description: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """For training and held-out rows: counts, token lengths, and the description."""
    tables = []
    for title, key, tokens in (
        ("training", "dataset", prepared.train),
        ("held out", "eval_dataset", prepared.held_out),
    ):
        if tokens is None:
            continue
        counts: Rows = [
            ("rows read, after the filters", str(tokens.read)),
            ("rows used", str(len(tokens.rows))),
            ("truncated", str(tokens.truncated)),
        ]
        # Totals and reasons of rows that were left out, such as dataset/dropped_pairs/REASON.
        counts += [
            (name.removeprefix(f"{key}/").replace("_", " ").replace("/", ": "), str(count))
            for name, count in metrics.items()
            if name.startswith(f"{key}/")
        ]
        tables.append(
            {
                "title": title,
                "counts": counts + (list(description) if key == "dataset" else []),
                "lengths": summarize_lengths(tokens.lengths()),
            }
        )
    return tables
