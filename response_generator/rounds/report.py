"""Writes what the rounds have found: report.html, summary.md, rounds.png, log.jsonl and metrics.json."""

from collections.abc import Sequence

from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.constants import BASELINE, BEST_OF_NAME
from response_generator.evaluation.reporting.formats import format_number
from response_generator.reporting.blocks import Paragraph, Pictures, Section, Sentences, Table, list_settings
from response_generator.reporting.markdown import escape, escape_cell
from response_generator.reporting.page import write_page
from response_generator.reporting.pictures import write_pictures
from response_generator.rounds.limits import (
    GAIN,
    PRICES,
    Price,
    Round,
    choose_best,
    format_comparison,
    format_limit,
    list_figures,
)
from response_generator.rounds.plot import BestOf, draw_rounds
from response_generator.runs import atomic_files, json_lines
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.runs.short_names import build_page_title
from response_generator.runs.terminal import open_console

LOG_FILE = "log.jsonl"
DIFFERENCES = {  # from the first adapter, in the evaluation's metrics.json
    GAIN: "targets followed",
    "accuracy_at_equal_length": "… with replies cut to equal length",
    "length_controlled_accuracy": "… controlled for length",
    "followed_unnamed": "… and not named",
    "second_emotion_accuracy": "… by the second classifier",
}
MARK = " ✗"  # behind a figure that is beyond its limit


def write_report(args: RoundsArguments, run: RunFolder, rounds: Sequence[Round], reason: str | None) -> None:
    """Writes everything but metrics.json, also while more rounds follow.

    Args:
        reason: why no other round follows; None: they are all done, or the next one follows.
    """
    json_lines.write_jsonl(
        run.path / LOG_FILE, [{"round": each.number} | list_figures(each, args.stop) for each in rounds]
    )
    best_of = find_best_of(rounds[0])
    pictures = write_pictures([draw_rounds(args.stop, rounds, best_of)], run.path)
    first, *others = draw_conclusions(args, rounds, reason)
    differences, prices = build_gain_table(rounds), build_price_table(args, rounds)
    blocks = [
        Paragraph(first, "conclusion"),
        Sentences(others),
        Pictures(pictures),
        Section("Gain", [Paragraph("Points above the first adapter, with 95 % intervals."), differences]),
        Section("Price", [Paragraph(f"Beside the first adapter;{MARK} is beyond the limit."), prices]),
        Section("Reports of the rounds", [Sentences(list_reports(rounds))]),
        list_settings("Settings", flatten(run.arguments)),
        list_settings("Environment", run.flatten_environment()),
    ]
    write_page(run.path / "report.html", build_page_title("Rounds", run.path), blocks)
    lines = [f"**{escape(first)}**", "", *(f"- {escape(each)}" for each in others), ""]
    lines += [*format_table(differences), "", *format_table(prices), ""]
    atomic_files.atomic_write(run.path / "summary.md", "\n".join(lines).encode("utf-8"))


def write_results(args: RoundsArguments, run: RunFolder, rounds: Sequence[Round], reason: str | None) -> None:
    """Writes everything; metrics.json, which marks the run as finished, comes last."""
    write_report(args, run, rounds, reason)
    best, best_of = choose_best(rounds, args.stop), find_best_of(rounds[0])
    metrics = {"rounds": len(rounds), "best_round": best.number if best else 0}
    for each in rounds:
        metrics |= {f"round-{each.number}/{name}": value for name, value in list_figures(each, args.stop).items()}
    metrics |= {f"{BASELINE}{best_of.title}/{GAIN}": best_of.accuracy} if best_of else {}
    run.write_json("metrics.json", metrics)
    console = open_console()
    console.print()
    for sentence in draw_conclusions(args, rounds, reason):
        console.print(f"- {sentence}", soft_wrap=True)
    adapter = f"the adapter is in {run.path / 'adapter'}; " if best else ""
    console.print(f"\ndone: {adapter}open {run.path / 'report.html'}", soft_wrap=True)


def draw_conclusions(args: RoundsArguments, rounds: Sequence[Round], reason: str | None) -> list[str]:
    """Which round is kept, why the rounds have ended, and what the best of several replies gives without training."""
    best, best_of = choose_best(rounds, args.stop), find_best_of(rounds[0])
    conclusions = []
    if best:
        start, share = (format_number(figures[GAIN], True) for figures in (best.start, best.adapter))
        gain = format_difference(best, GAIN)
        conclusions.append(
            f"Round {best.number} is kept: it follows {share} % of the targets, the first adapter {start} % ({gain} "
            f"points)."
        )
        conclusions.append("These dialogues have chosen it, which favors it: report on others.")
    else:
        conclusions.append("No round is kept: none follows more targets within the limits. Use the first adapter.")
    if reason:
        conclusions.append(f"The rounds ended because {reason}.")
    elif len(rounds) == args.rounds:
        conclusions.append(f"All {args.rounds} rounds were run.")
    else:
        conclusions.append(f"{len(rounds)} of at most {args.rounds} rounds are done; the next one follows.")
    if best_of:
        share = format_number(best_of.accuracy, True)
        conclusions.append(f"Without training, the{best_of.title} replies of the first adapter follow {share} %.")
    return conclusions


def find_best_of(first: Round) -> BestOf | None:
    """What the best of several replies of the first adapter gives, which the first round has sampled."""
    for key, value in first.evaluation.items():
        model, _, metric = key.partition("/")
        found = BEST_OF_NAME.fullmatch(model)
        if found and found[1] == BASELINE and metric == GAIN:
            return BestOf(model.removeprefix(BASELINE), value)
    return None


def build_gain_table(rounds: Sequence[Round]) -> Table:
    header = ["", *(f"round {each.number}" for each in rounds)]
    rows = []
    for name, title in DIFFERENCES.items():
        cells = [format_difference(each, name) for each in rounds]
        if any(cells):
            rows.append([title, *cells])
    return Table({"": rows}, header, style="metrics blocks")


def format_difference(found: Round, name: str) -> str:
    """With its interval; empty where the evaluation has no such metric."""
    # A third model, with the best of several replies, gives the groups other names.
    for group in ("difference", "difference of adapter"):
        key = f"{group}/{name}"
        if key in found.evaluation:
            value, *bounds = [found.evaluation.get(place) for place in (key, f"{key}/low", f"{key}/high")]
            interval = " [{}, {}]".format(*(format_number(each, True) for each in bounds)) if None not in bounds else ""
            return format_number(value, True, signed=True) + interval
    return ""


def build_price_table(args: RoundsArguments, rounds: Sequence[Round]) -> Table:
    header = ["", "start", *(f"round {each.number}" for each in rounds), "limit"]
    share = [format_number(each.adapter[GAIN], True) for each in rounds]
    rows = [["targets followed, %", format_number(rounds[0].start[GAIN], True), *share, ""]]
    for price in PRICES:
        known = [each for each in rounds if price in each.list_prices()]
        if known:
            limit = getattr(args.stop, price.limit)
            cells = [format_price(each, price, limit) if each in known else "" for each in rounds]
            start = format_number(known[0].start[price.metric], price.in_percent)
            rows.append([price.title, start, *cells, "" if limit is None else format_limit(price, limit)])
    return Table({"": rows}, header, style="metrics blocks")


def format_price(found: Round, price: Price, limit: float | None) -> str:
    value, start = found.adapter[price.metric], found.start[price.metric]
    mark = MARK if limit is not None and price.breaks(value, start, limit) else ""
    compared = format_comparison(price, price.compare(value, start))
    return f"{format_number(value, price.in_percent)} ({compared}){mark}"


def list_reports(rounds: Sequence[Round]) -> list[str]:
    return [
        f"round {each.number}: round-{each.number}/pairs, round-{each.number}/dpo and round-{each.number}/evaluation, "
        f"each with a report.html"
        for each in rounds
    ]


def format_table(table: Table) -> list[str]:
    lines = [f"| {' | '.join(map(escape_cell, table.header))} |", "|---" + "|--:" * (len(table.header) - 1) + "|"]
    return lines + [f"| {' | '.join(map(escape_cell, row))} |" for rows in table.groups.values() for row in rows]
