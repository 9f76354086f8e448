"""The results of a training run: table, curves, page, model card and metrics. Needs no model."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from response_generator.reporting.pictures import render
from response_generator.runs import atomic_files
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.short_names import build_page_title
from response_generator.runs.terminal import PlainConsole
from response_generator.runs.tracking import Tracker
from response_generator.training.monitoring import curves, report_page
from response_generator.training.monitoring.model_card import write_model_card
from response_generator.training.monitoring.step_files import LOG_FILE, SAMPLES_FILE, WARNINGS_FILE, read_rows
from response_generator.training.preparation import PreparedTraining


def write_results(
    run: RunFolder,
    prepared: PreparedTraining,
    metrics: dict[str, float],
    tracker: Tracker,
    description: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes curves, report.html, the model card and metrics.json, which marks the run as finished, and prints the
    metrics.

    Args:
        description: `(title, value)` of what is known of the training data.
    """
    method = prepared.method
    titles, panels = method.list_titles(prepared.config), method.list_panels(prepared.config)
    warnings = read_rows(run.path / WARNINGS_FILE)
    log = [*read_rows(run.path / LOG_FILE), to_log_entry(metrics)]
    picture = run.path / "training.png"
    title = build_page_title(method.name, run.path)
    content = render(curves.draw_all(log, panels, warnings, title), "png")
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
    write_model_card(method, run.path / "adapter", run.arguments, figures, len(prepared.train.rows), picture)
    tracker.log_image("training", picture)
    tracker.summarize(metrics)
    tracker.finish()
    run.write_json("metrics.json", metrics)
    show_results(method.name, figures, [warning["message"] for warning in warnings])
    print(f"done: the adapter is in {run.path / 'adapter'}; open {run.path / 'report.html'}")


def to_log_entry(metrics: dict[str, float]) -> dict[str, float]:
    """The evaluation after the last step, as an entry of the log: it is not in log.jsonl."""
    step = metrics.get("best_step", metrics["steps"])
    return {"step": step} | {name: value for name, value in metrics.items() if name.startswith(curves.HELD_OUT)}


def show_results(title: str, figures: dict[str, str], warnings: Sequence[str] = ()) -> None:
    """Prints the figures and the warnings."""
    table = Table(title=title, title_justify="left", show_header=False)
    for title, value in figures.items():
        table.add_row(title, value)
    console = PlainConsole()
    console.print(table)
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def format_metric(name: str, value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}" if "loss" in name else f"{value:.3f}"
