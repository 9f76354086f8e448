"""The results of a blind test in plain words: on the terminal, and in scores.md and scores.json."""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from response_generator.blind_test.agreement import Agreement
from response_generator.blind_test.followed import DIFFERENCE
from response_generator.blind_test.scoring import Preference, Scores
from response_generator.evaluation.reporting.formats import format_interval, format_number, format_p_value
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.reporting.markdown import escape, escape_cell
from response_generator.runs import atomic_files
from response_generator.runs.terminal import open_console

SCORES_FILE, TEXT_FILE = "scores.json", "scores.md"
MAX_P = 0.05
HEADING_WIDTH = 20  # characters; longer names are broken


def show_scores(scores: Scores) -> None:
    console = open_console()
    console.print(describe_test(scores), "", sep="\n")
    if scores.followed:
        console.print(build_table(scores), "", sep="\n")
    for sentence in list_sentences(scores):
        console.print(f"- {sentence}", soft_wrap=True)


def build_table(scores: Scores) -> Table:
    """The table for the terminal. Each interval stands below its value and is not broken; titles of rows are."""
    header, *rows = list_cells(scores)
    table = Table(header[0], box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in header[1:]:
        table.add_column("\n".join(textwrap.wrap(name, HEADING_WIDTH)), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell.replace(" [", "\n[") for cell in row))
    return table


def write_scores(scores: Scores, folder: Path) -> None:
    lines = ["# Blind test", "", escape(describe_test(scores)), ""]
    if scores.followed:
        header, *rows = [" | ".join(map(escape_cell, cells)) for cells in list_cells(scores)]
        ruler = "|".join(["---", *["---:"] * len(scores.followed)])
        lines += [f"| {header} |", f"|{ruler}|", *(f"| {row} |" for row in rows), ""]
    lines += [f"- {escape(sentence)}" for sentence in list_sentences(scores)]
    atomic_files.atomic_write(folder / TEXT_FILE, ("\n".join(lines) + "\n").encode("utf-8", "replace"))
    content = json.dumps(asdict(scores, dict_factory=drop_missing), indent=2, ensure_ascii=False)
    atomic_files.atomic_write(folder / SCORES_FILE, content.encode("utf-8", "replace"))


def drop_missing(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def describe_test(scores: Scores) -> str:
    raters = ", ".join(f"{name} {count}" for name, count in scores.complete.items())
    first, second = scores.models
    return f"blind test {scores.sheet} of {first} and {second}, {scores.pairs} pairs; wholly answered by {raters}"


def list_cells(scores: Scores) -> list[list[str]]:
    """Header and rows of the table of replies with the target label."""
    columns = scores.followed
    header = [f"with the target {scores.noun}, % [95 % interval]", *columns]
    counts = ", ".join(str(count) for count in dict.fromkeys(each.rated for each in columns.values()))
    found = {f"in the view of raters ({counts} rated)": [each.raters for each in columns.values()]}
    if any(each.corrected for each in columns.values()):
        found |= {
            "classifier, the same replies": [Estimate(each.classifier_rated) for each in columns.values()],
            f"classifier, all {scores.prompts} prompts": [Estimate(each.classifier_all) for each in columns.values()],
            f"raters' view of all {scores.prompts} prompts, estimated": [each.corrected for each in columns.values()],
        }
    rows = [
        [title, *(format_estimate(estimate, name == DIFFERENCE) for name, estimate in zip(columns, row, strict=True))]
        for title, row in found.items()
    ]
    return [header, *rows]


def format_estimate(estimate: Estimate, signed: bool) -> str:
    value = format_number(estimate.value, in_percent=True, signed=signed)
    p = "" if estimate.p is None else f"p = {format_p_value(estimate.p)}"
    return " ".join(filter(None, [value, p, format_interval(estimate, in_percent=True)]))


def list_sentences(scores: Scores) -> Iterator[str]:
    if scores.preference:
        yield describe_preference(scores.preference, *scores.models)
    for question, found in scores.agreement.items():
        yield f"raters about the {question}: {describe_agreement(found)}"
    for rater, found in scores.with_classifier.items():
        yield f"{rater} and the classifier about the {scores.noun}: {describe_agreement(found)}"
    for rater, count in scores.complete.items():
        if count < scores.pairs:
            left_out = scores.pairs - count
            yield f"{rater} has left out answers in {left_out} of {scores.pairs} pairs; what is there counts"
    if scores.followed:
        yield (
            f'"cannot tell" counts as a reply without the target {scores.noun}; with several raters, a reply counts as '
            f"the share of its raters"
        )
        yield f"each target {scores.noun} counts as often as among the rated replies, in all rows"
    if scores.identical:
        yield f"{scores.identical} prompts to which both models reply the same are in no figure"


def describe_preference(found: Preference, first: str, second: str) -> str:
    counts = (
        f"{second} is preferred in {found.wins} pairs, {first} in {found.losses}, neither in {found.ties} "
        f'(answers "equally good": {found.equally_good}, "cannot tell": {found.cannot_tell})'
    )
    if found.share is None:
        return counts
    share = f"{format_number(found.share.value, in_percent=True)} % {format_interval(found.share, in_percent=True)}"
    verdict = "" if found.share.p < MAX_P else ", which could be chance"
    return (
        f"{counts}; of the pairs with a preference {second} has {share}, sign test p = "
        f"{format_p_value(found.share.p)}{verdict}"
    )


def describe_agreement(found: Agreement) -> str:
    kappa = "is not defined, because all answers are the same" if found.kappa is None else f"{found.kappa:.2f}"
    same = format_number(found.same, in_percent=True)
    return f"the same answer in {same} % of {found.answers}, Cohen's kappa {kappa}"
