"""report.html of a training run: key figures, curves with the warnings, data, sample replies and settings."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from response_generator.data.pair_tokenization import LENGTH_COLUMNS, summarize_lengths
from response_generator.reporting import blocks
from response_generator.reporting.page import write_page
from response_generator.reporting.pictures import render
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.training.dpo_loss_types import LOSS_PARTS
from response_generator.training.monitoring import curves
from response_generator.training.monitoring.samples import POLICY, REFERENCE, get_turn_text
from response_generator.training.preparation import PreparedTraining
from response_generator.training.training_method import MetricCard, TrainingMethod

MAX_SHOWN_REPLIES = 12  # to a prompt
LAST_QUARTER_NOTE = "mean of the last quarter of the steps"


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
    parts = [
        blocks.Paragraph(describe_run(prepared, metrics)),
        blocks.Cards(build_cards(prepared.method, metrics)),
        build_warnings(warnings, prepared.method),
        build_curves(log, panels, warnings),
        *build_samples(samples),
        blocks.Section("Data", list(build_data_tables(prepared, metrics, description))),
        blocks.list_settings("Settings", flatten(run.arguments)),
        blocks.list_settings("Environment", run.flatten_environment()),
    ]
    write_page(run.path / "report.html", title, parts)


def describe_run(prepared: PreparedTraining, metrics: dict[str, float]) -> str:
    text = f"{len(prepared.train.rows)} rows, {metrics['steps']} steps (epochs: {metrics['epoch']:.3g})"
    for name in prepared.method.summary_settings:
        text += f", {name.replace('_', ' ')} {getattr(prepared.config, name):g}"
    if "best_step" in metrics:
        text += f"; the adapter of step {metrics['best_step']} was kept"
    return text


def build_cards(method: TrainingMethod, metrics: dict[str, float]) -> list[blocks.Card]:
    cards = [build_metric_card(card, metrics) for card in method.cards]
    return [*cards, build_loss_card(metrics), build_speed_card(metrics, method.unit)]


def build_metric_card(card: MetricCard, metrics: dict[str, float]) -> blocks.Card:
    """The held-out value in large type, or that of the last quarter of training where nothing is held out."""
    held_out, training = metrics.get(f"eval_{card.metric}"), metrics.get(f"last_quarter/{card.metric}")
    shown = "not logged" if training is None else card.form.format(training)
    if held_out is None:
        return blocks.Card(card.title, shown, f"in training, {LAST_QUARTER_NOTE}")
    value = card.form.format(held_out)
    return blocks.Card(card.title, value, "of held-out rows, at the end", [("training, last quarter", shown)])


def build_loss_card(metrics: dict[str, float]) -> blocks.Card:
    last = metrics.get("last_quarter/loss")
    value = f"{metrics['initial_loss']:.3f}" + ("" if last is None else f" → {last:.3f}")
    rows = [
        (f"{name.removeprefix(LOSS_PARTS)}, at the start", f"{part:.3f}")
        for name, part in metrics.items()
        if name.startswith(LOSS_PARTS)
    ]
    if "eval_loss" in metrics:
        rows.append(("held out", f"{metrics['eval_loss']:.3f}"))
    return blocks.Card("loss", value, f"before the first step → {LAST_QUARTER_NOTE}", rows)


def build_speed_card(metrics: dict[str, float], unit: str) -> blocks.Card:
    speed = metrics.get(f"{unit}_per_second")
    rows = [("peak memory", f"{metrics['peak_memory_gb']:.1f} GB")]
    if speed is None:
        return blocks.Card("speed", "not measured", "training had ended in an earlier start of the run", rows)
    minutes, seconds = divmod(round(metrics["train_seconds"]), 60)
    rows.insert(0, ("training time", f"{minutes} min {seconds} s"))
    return blocks.Card("speed", f"{speed:.1f} {unit}/s", "evaluations and sample replies included", rows)


def build_warnings(warnings: curves.Log, method: TrainingMethod) -> blocks.Block:
    if not warnings:
        return blocks.Paragraph(f"The health checks found nothing to warn of; {method.unchecked_note}.")
    messages = [warning["message"] for warning in warnings]
    return blocks.Section("Warnings", [blocks.Sentences(messages, are_warnings=True)])


def build_curves(log: curves.Log, panels: Sequence[curves.Panel], warnings: curves.Log) -> blocks.Section:
    note = curves.describe_window(log) + ("; dotted: the step of a warning, with its number" if warnings else "")
    pictures = []
    for panel in panels:
        svg = render(curves.draw_one(log, panel, warnings), "svg")
        pictures.append(blocks.Picture(panel.title.replace(" ", "-"), curves.describe_panel(log, panel), svg))
    return blocks.Section("Curves", [blocks.Paragraph(f"{note}."), blocks.Pictures(pictures, are_panels=True)])


def build_samples(samples: curves.Log) -> list[blocks.Section]:
    """A section with each prompt's sample replies; none without samples."""
    prompts: dict[int, list[dict[str, Any]]] = {}
    for row in samples:
        prompts.setdefault(row["index"], []).append(row)
    note = (
        f"The same prompts and random numbers at every step; {MAX_SHOWN_REPLIES} replies to a prompt at most. "
        "samples.jsonl has all of them."
    )
    parts = [blocks.Paragraph(note), *map(group_replies, prompts.values())]
    return [blocks.Section("Sample replies", parts)] if prompts else []


def group_replies(rows: list[dict[str, Any]]) -> blocks.PromptReplies:
    """The policy's replies to one prompt, equal ones of consecutive steps in one line, and the reference's reply."""

    def format_reply(row: dict[str, Any], before: str = "") -> tuple[str, str, str]:
        return before, row["response"], "stopped by max_new_tokens" if row["hit_max_new_tokens"] else ""

    policy = spread(merge_equal([row for row in rows if row["model"] == POLICY]), MAX_SHOWN_REPLIES)
    reference = [format_reply(row) for row in rows if row["model"] == REFERENCE][:1]
    return blocks.PromptReplies(
        f"target emotion: {rows[0]['target_emotion'] or 'none'}",
        [(turn["role"], get_turn_text(turn)) for turn in rows[0]["prompt"]],
        {POLICY: [format_reply(row, f"step {row['steps']}") for row in policy]}
        | ({REFERENCE: reference} if reference else {}),
    )


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
) -> Iterator[blocks.Table]:
    """For training and held-out rows: counts with the description, and token lengths."""
    rows = (("training", "dataset", prepared.train), ("held out", "eval_dataset", prepared.held_out))
    for title, key, tokens in rows:
        if tokens is None:
            continue
        # Totals and reasons of rows that were left out, such as dataset/dropped_pairs/REASON.
        left_out = [
            (name.removeprefix(f"{key}/").replace("_", " ").replace("/", ": "), str(count))
            for name, count in metrics.items()
            if name.startswith(f"{key}/")
        ]
        counts = [
            ("rows read, after the filters", str(tokens.read)),
            ("rows used", str(len(tokens.rows))),
            ("truncated", str(tokens.truncated)),
            *left_out,
            *(description if key == "dataset" else []),
        ]
        yield blocks.Table({"": counts}, title=title, style="settings")
        lengths = summarize_lengths(tokens.lengths())
        yield blocks.Table({"": lengths}, LENGTH_COLUMNS, f"{title}: tokens of a row", "numbers")
