"""Measurements in alternating rounds, each in a process of its own, and their medians, ratios and bars."""

import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from matplotlib.axes import Axes
from tqdm import tqdm

from response_generator.runs.environment import find_processor_name

Rounds = list[dict]  # the results of one way in one case, a round each
Cases = dict[str, dict[str, Rounds]]  # by case and way


def measure_rounds(name: str, worker: Path, ways: dict[str, dict], cases: dict[str, dict], repeats: int) -> Cases:
    """Measures all ways in all cases, `repeats` times, one way after the other.

    Args:
        worker: a program that takes a measurement as JSON and prints its result as JSON in its last line.
        ways, cases: their parts of a measurement.
    """
    found: Cases = {case: {way: [] for way in ways} for case in cases}
    with tqdm(total=repeats * len(cases) * len(ways), desc=name, unit="measurement") as bar:
        for _ in range(repeats):
            for case, settings in cases.items():
                for way, own in ways.items():
                    found[case][way].append(measure(worker, own | settings))
                    bar.update()
    return found


def measure(worker: Path, measurement: dict) -> dict:
    done = start_worker(worker, measurement)
    if done.returncode:
        sys.exit(f"{' '.join(done.args)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def start_worker(worker: Path, measurement: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, str(worker), json.dumps(measurement)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def describe_machine() -> str:
    import torch

    return f"{find_processor_name()}, {torch.get_num_threads()} threads, Python {platform.python_version()}"


def read_results(file: Path) -> dict:
    """Earlier results of this machine, so that a benchmark can be run in parts; none of another machine."""
    results = {"machine": describe_machine(), "suites": {}}
    if file.exists():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if earlier["machine"] == results["machine"]:
            return earlier
    return results


def write_table(suite: str, cases: Cases, columns: dict[str, str], ratio: tuple[str, str]) -> list[str]:
    """Lines of a Markdown table.

    Args:
        columns: titles by their keys in the results.
        ratio: the key of which ratios are taken, and the way that has the ratio 1.
    """
    key, base = ratio
    repeats = len(next(iter(next(iter(cases.values())).values())))
    lines = ["", f"## {suite}, rounds: {repeats}", ""]
    lines += [f"| | way | {' | '.join(columns.values())} | ratio to {base} |", "|---|---" + "|--:" * (len(columns) + 1)]
    lines[-1] += "|"
    for case, ways in cases.items():
        for way, rounds in ways.items():
            cells = [show_spread([each[column] for each in rounds]) for column in columns]
            cells.append(show_ratios(rounds, ways[base], key))
            lines.append(f"| {case} | {way} | {' | '.join(cells)} |")
    return lines


def show_spread(values: list[float]) -> str:
    """Median, with the smallest and the largest value in brackets."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def show_ratios(rounds: Rounds, others: Rounds, key: str) -> str:
    """The ratio of each round by itself."""
    return show_spread([each[key] / other[key] for each, other in zip(rounds, others, strict=True)])


def draw_bars(panel: Axes, cases: Cases, key: str, colors: list[str]) -> None:
    """The median of each case and way as a bar, each round as a point.

    Args:
        colors: the ways, in the order of their colors.
    """
    ways = list(next(iter(cases.values())))
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        for at, rounds in enumerate(cases[case][way] for case in cases):
            values = [each[key] for each in rounds]
            x = at - 0.4 + (place + 0.5) * width
            label = way if at == 0 else None
            panel.bar(x, statistics.median(values), width * 0.9, color=f"C{colors.index(way)}", label=label)
            panel.scatter([x] * len(values), values, color="black", s=8, zorder=3)
    panel.set_xticks(range(len(cases)), list(cases))
