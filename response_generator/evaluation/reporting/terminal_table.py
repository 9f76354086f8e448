"""The table of an evaluation on a terminal of any width: the metrics that the conclusions are drawn from."""

import textwrap
from itertools import chain

from rich import box
from rich.table import Table
from rich.text import Text

from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.reporting.conclusions import UNBROKEN, draw_conclusions
from response_generator.evaluation.reporting.formats import (
    Throughput,
    describe_replies,
    describe_speed,
    format_interval,
    format_number,
)
from response_generator.evaluation.reporting.table import (
    Groups,
    build_header,
    format_cell,
    format_cells,
    format_p,
    group_rows,
)
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.evaluation.statistics.intervals import MIN_PROMPTS
from response_generator.runs.terminal import open_console

NO_BREAK_SPACE = "\u00a0"
GAP = 2  # characters between columns
MIN_TITLE_WIDTH = 14  # characters, the longest word in the title of a row; titles are wrapped between words
MIN_HEADING_WIDTH = 12  # characters; a longer word of a heading, such as a path, is broken where it does not fit


def show_table(comparison: Comparison, throughput: Throughput) -> None:
    """Prints the table and the conclusions."""
    console = open_console()
    size = f"{comparison.prompts} prompts{describe_replies(comparison)}"
    title = f"evaluation of {size}; rates in %, differences in points, [95 % interval]"
    console.print(title, "", sep="\n")
    for table in build_tables(comparison, console.width):
        console.print(table, "", sep="\n")
    if comparison.prompts < MIN_PROMPTS:
        console.print(f"With fewer than {MIN_PROMPTS} prompts only shares and their differences have intervals.")
    by_label = f", also those of each {comparison.labels.noun}," if comparison.has_emotions else ""
    console.print(f"All metrics{by_label} are in report.html.")
    for line in describe_speed(throughput):
        console.print(line)
    console.print()
    for conclusion in draw_conclusions(comparison):
        # In a file a sentence is one line, which can be searched for.
        text = wrap_sentence(conclusion, console.width) if console.is_terminal else f"- {conclusion}"
        console.print(text, soft_wrap=True)
    console.print()


def wrap_sentence(sentence: str, width: int) -> str:
    """An item of a list, wrapped between words, but not inside of an interval or another part of UNBROKEN."""
    joined = UNBROKEN.sub(lambda part: part[0].replace(" ", NO_BREAK_SPACE), sentence)
    wrapped = textwrap.fill(joined, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    return wrapped.replace(NO_BREAK_SPACE, " ")


def build_tables(comparison: Comparison, width: int) -> list[Table]:
    """One table where all columns fit, if need be with each interval below its value. Otherwise the models and the gold
    replies come first, and the differences in a table below, in as many parts as it takes."""
    header = build_header(comparison)
    metrics = [metric for metric in comparison.metrics.values() if metric.carries_conclusions]
    columns = list(range(1, len(header)))
    for form in (format_cell, format_in_two_lines):
        groups = group_rows(comparison, metrics, form, format_cells)
        widths = measure_columns(header, groups)
        if fits(widths, columns, width, title_width=widths[0] if form is format_cell else MIN_TITLE_WIDTH):
            return [build_table(header, groups, widths, columns, width)]
    *differences, gold = columns[len(comparison.models) :]
    parts = split_columns(widths, [*columns[: len(comparison.models)], gold], width)
    parts += split_columns(widths, differences, width)
    return [build_table(header, groups, widths, part, width) for part in parts]


def format_in_two_lines(estimate: Estimate | None, in_percent: bool, signed: bool = False) -> str:
    """The value with its p-value, and the interval below."""
    if estimate is None:
        return "–"
    first = f"{format_number(estimate.value, in_percent, signed)} {format_p(estimate)}".rstrip()
    return f"{first}\n{format_interval(estimate, in_percent)}".rstrip()


def measure_columns(header: list[str], groups: Groups) -> list[int]:
    """The least width of each column: that of its cells, which are not broken, and of the heading's short words."""
    rows = list(chain.from_iterable(groups.values()))
    return [
        max(
            *(len(line) for row in rows for line in row[column].splitlines()),
            *(min(len(word), MIN_HEADING_WIDTH) for word in heading.split()),
        )
        for column, heading in enumerate(header)
    ]


def fits(widths: list[int], columns: list[int], width: int, title_width: int = MIN_TITLE_WIDTH) -> bool:
    return title_width + sum(GAP + widths[column] for column in columns) <= width


def split_columns(widths: list[int], columns: list[int], width: int) -> list[list[int]]:
    """As many columns in each part as fit beside the titles, and at least one."""
    parts: list[list[int]] = []
    for column in columns:
        if parts and fits(widths, [*parts[-1], column], width):
            parts[-1].append(column)
        else:
            parts.append([column])
    return parts


def build_table(header: list[str], groups: Groups, widths: list[int], columns: list[int], width: int) -> Table:
    """Some columns of the table. Width that is left goes to long words of the headings, then to the titles of the rows,
    then to whole headings."""
    longest_words = {column: max(map(len, header[column].split())) for column in columns}
    wanted = [*longest_words.items(), (0, widths[0]), *((column, len(header[column])) for column in columns)]
    shown = {column: widths[column] for column in columns} | {0: MIN_TITLE_WIDTH}
    left = width - GAP * len(columns) - sum(shown.values())
    for column, wish in wanted:
        more = max(0, min(left, wish - shown[column]))
        shown[column] += more
        left -= more
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    table.add_column(width=shown[0], overflow="fold")
    for column in columns:
        table.add_column(Text(header[column]), justify="right", width=shown[column], overflow="fold")
    for title, rows in groups.items():
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for row in rows:
            table.add_row(Text(row[0]), *(dim_second_line(row[column]) for column in columns))
    return table


def dim_second_line(cell: str) -> Text:
    first, newline, second = cell.partition("\n")
    return Text.assemble(first, newline, (second, "dim"))
