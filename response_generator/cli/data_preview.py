"""Output about the models that a run reads, and the rows of its data sets that it leaves out. Imports no torch."""

from rich.text import Text

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.section import Section
from response_generator.config.source_list import list_sources
from response_generator.data.datasets import Skipped
from response_generator.data.raw_rows import count_rows
from response_generator.preferences.filters import FILTERED
from response_generator.runs.terminal import PlainConsole

console = PlainConsole(highlight=False)


def show_warning(message: str) -> None:
    console.print(Text(message, style="yellow"), soft_wrap=True)


def show_models(arguments: Section) -> None:
    """Prints the name of each model, adapter and classifier, which may come from a file that the args file extends."""
    for source in list_sources(arguments):
        if not source.data:
            console.print(Text(f"{source.key}: {source.name}"), soft_wrap=True)


def show_skipped(skipped: dict[str, Skipped]) -> None:
    """Prints the number of skipped bad rows of each data set by reason."""
    for key, reasons in skipped.items():
        for reason, count in sorted(reasons.items()):
            show_warning(f"{key}: skipped {count} bad row(s): {reason}")


def show_filtered(counts: dict[str, int]) -> None:
    """Prints how many pairs each filter has dropped; see `count_filtered`."""
    for name, count in counts.items():
        key, found, name_of_filter = name.partition(f"/{FILTERED}/")
        if found:
            console.print(f"{key}: dropped {count} pair(s) by filters.{name_of_filter}", soft_wrap=True)


def show_limits(datasets: dict[str, DatasetArguments | None]) -> None:
    """Prints which data sets are shortened by `limit`, and how many rows they have."""
    for key, dataset in datasets.items():
        if dataset is None or dataset.limit is None:
            continue
        rows = count_rows(dataset)
        if rows > dataset.limit:
            console.print(f"[yellow]{key}: {dataset.limit} of {rows} rows ({key}.limit)[/yellow]")
