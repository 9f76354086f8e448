"""The results of a training run: table, curves, page, model card and metrics. Needs no model."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from response_generator.reporting.pictures import render
from response_generator.runs import atomic_files
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.short_names import build_page_title
from response_generator.runs.terminal import PlainConsole
from response_generator.runs.tracking import Tracker
from response_generator.training import curves, initial_loss, report_page
from response_generator.training.model_card import write_model_card
from response_generator.training.step_files import LOG_FILE, SAMPLES_FILE, WARNINGS_FILE, read_rows

DPO_TITLES = {
    "train_loss": "loss, mean of all steps",
    "last_quarter/loss": "loss, mean of the last quarter of the steps",
    "last_quarter/rewards/margins": "reward margin, mean of the last quarter of the steps",
    "last_quarter/rewards/accuracies": "reward accuracy, mean of the last quarter of the steps",
    "best_step": "step with the best evaluation, whose adapter was kept",
    "eval_loss": "held-out loss",
    "eval_rewards/margins": "held-out reward margin",
    "eval_rewards/accuracies": "held-out reward accuracy",
    "pairs_per_second": "pairs per second",
    "peak_memory_gb": "peak memory (GB)",
}
SFT_TITLES = {
    "initial_loss": "loss before the first step, on a few dialogues",
    "train_loss": "loss, mean of all steps",
    "last_quarter/loss": "loss, mean of the last quarter of the steps",
    "last_quarter/mean_token_accuracy": "token accuracy, mean of the last quarter of the steps",
    "best_step": "step with the best evaluation, whose adapter was kept",
    "eval_loss": "held-out loss",
    "eval_mean_token_accuracy": "held-out token accuracy",
    "dialogues_per_second": "dialogues per second",
    "peak_memory_gb": "peak memory (GB)",
}


def write_results(
    method: str,
    run: RunFolder,
    prepared: Any,
    metrics: dict[str, float],
    tracker: Tracker,
    description: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes curves, report.html, the model card and metrics.json, which marks the run as finished, and prints the
    metrics.

    Args:
        method: "DPO" or "SFT".
        prepared: what the run was prepared with, PreparedTraining or PreparedSFT.
        description: `(title, value)` of what is known of the training data.
    """
    if method == "DPO":
        titles = initial_loss.list_titles(prepared.config) | DPO_TITLES
        panels = curves.list_dpo_panels(initial_loss.uses_plain_dpo_loss(prepared.config))
    else:
        titles, panels = SFT_TITLES, curves.SFT_PANELS
    warnings = read_rows(run.path / WARNINGS_FILE)
    log = [*read_rows(run.path / LOG_FILE), to_log_entry(metrics)]
    picture = run.path / "training.png"
    title = build_page_title(method, run.path)
    content = render(curves.draw_all(log, panels, warnings, title), "png", {"Software": None})
    atomic_files.atomic_write(picture, content)
    report_page.write_report_page(
        run,
        title,
        prepared,
        metrics,
        log,
        panels,
        warnings,
        read_rows(run.path / SAMPLES_FILE),
        description,
    )
    figures = {words: format_metric(name, metrics[name]) for name, words in titles.items() if name in metrics}
    write_model_card(run.path / "adapter", run.arguments, figures, len(prepared.train.rows), picture)
    tracker.log_image("training", picture)
    tracker.summarize(metrics)
    tracker.finish()
    run.write_json("metrics.json", metrics)
    show_training(method, figures, [warning["message"] for warning in warnings])
    print(f"done: the adapter is in {run.path / 'adapter'}; open {run.path / 'report.html'}")


def to_log_entry(metrics: dict[str, float]) -> dict[str, float]:
    """The evaluation after the last step, as an entry of the log: it is not in log.jsonl."""
    step = metrics.get("best_step", metrics["steps"])
    return {"step": step} | {name: value for name, value in metrics.items() if name.startswith(curves.HELD_OUT)}


def show_training(method: str, figures: dict[str, str], warnings: Sequence[str] = ()) -> None:
    """Prints the figures and the warnings."""
    table = Table(title=method, title_justify="left", show_header=False)
    for title, value in figures.items():
        table.add_row(title, value)
    console = PlainConsole()
    console.print(table)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def format_metric(name: str, value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}" if "loss" in name else f"{value:.3f}"
