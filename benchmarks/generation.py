"""How fast this program generates, compared with three other ways, on the demo's base model.

    python benchmarks/generation.py [--suite SUITE …] [--repeats N]

Every measurement runs in a process of its own. The ways alternate, so that a change of the machine's speed affects all
of them; ratios are of measurements of one round. Writes generation.json, generation.md and generation.png into this
folder.
Needs the models of `make demo`, and for llama.cpp benchmarks/requirements.txt; an idle machine.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from tqdm import tqdm

from response_generator.runs.run_folder import find_processor_name

FOLDER = Path(__file__).parent
WORKER = FOLDER / "generation_worker.py"
RESULTS = FOLDER / "generation.json"
THIS = "this program, 16 rows"
BEFORE = "generate, batches of 16"
ONE = "generate, one prompt at a time"
LLAMA_CPP = "llama.cpp, one prompt at a time"
WAYS = {
    THIS: {"way": "decoding", "batch": 16},
    "this program, 64 rows": {"way": "decoding", "batch": 64},
    BEFORE: {"way": "generate", "batch": 16},
    ONE: {"way": "generate", "batch": 1},
    LLAMA_CPP: {"way": "llama.cpp", "batch": 1},
}
# Each suite: the ways it compares, and the cases in which it compares them.
SUITES = {
    "ways": (list(WAYS), {"64 prompts": {"rows": 64, "samples": 1}}),
    "samples": (
        [THIS, "this program, 64 rows", BEFORE],
        {f"{samples} samples": {"rows": 16, "samples": samples} for samples in (1, 6)},
    ),
    "rows": ([THIS, BEFORE], {f"{rows} prompts": {"rows": rows, "samples": 1} for rows in (16, 64, 128)}),
    "prompt length": (
        [THIS, BEFORE],
        {f"{tokens} tokens": {"rows": 32, "samples": 1, "prompt_tokens": tokens} for tokens in (75, 150, 300)},
    ),
}
ALONE_CASES = {"bfloat16": {}, "float32": {"dtype": "float32"}}
ALONE_ROWS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", choices=[*SUITES, "alone"], default=[*SUITES, "alone"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each suite")
    options = parser.parse_args()
    machine = describe_machine()
    results = {"machine": machine, "suites": {}, "alone": {}}
    if RESULTS.exists() and json.loads(RESULTS.read_text(encoding="utf-8"))["machine"] == machine:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))  # other suites keep their results
    for suite in options.suite:
        if suite == "alone":
            results["alone"] = {name: compare_alone(case) for name, case in ALONE_CASES.items()}
        else:
            results["suites"][suite] = run_suite(suite, *SUITES[suite], options.repeats)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "generation.md").write_text(write_tables(results), encoding="utf-8")
    draw(results["suites"])
    print(write_tables(results))


def run_suite(name: str, ways: list[str], cases: dict[str, dict], repeats: int) -> dict:
    """`{case: {way: [results of each round]}}`."""
    ways = [way for way in ways if way != LLAMA_CPP or can_run_llama_cpp()]
    found: dict = {case: {way: [] for way in ways} for case in cases}
    with tqdm(total=repeats * len(cases) * len(ways), desc=name, unit="measurement") as bar:
        for _ in range(repeats):
            for case, settings in cases.items():
                for way in ways:
                    found[case][way].append(measure(WAYS[way] | settings))
                    bar.update()
    return found


def can_run_llama_cpp() -> bool:
    """Tries one prompt: a build for another processor ends with an illegal instruction."""
    done = start_worker(WAYS[LLAMA_CPP] | {"rows": 1, "samples": 1})
    if done.returncode:
        tqdm.write(f"llama.cpp is left out: it ended with status {done.returncode}\n{done.stderr[-500:]}")
    return done.returncode == 0


def measure(measurement: dict) -> dict:
    done = start_worker(measurement)
    if done.returncode:
        sys.exit(f"{' '.join(done.args)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def start_worker(measurement: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, str(WORKER), json.dumps(measurement)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compare_alone(case: dict) -> dict[str, int]:
    """How many replies are the same when each is written alone and when 16 are written together."""
    alone, together = (
        measure({"way": "decoding", "batch": batch, "rows": ALONE_ROWS, "samples": 1, "keep_replies": True} | case)
        for batch in (1, 16)
    )
    same = sum(reply == together["replies"][index] for index, reply in alone["replies"].items())
    return {"same": same, "replies": len(alone["replies"])}


def describe_machine() -> str:
    import torch

    return f"{find_processor_name()}, {torch.get_num_threads()} threads, Python {platform.python_version()}"


def write_tables(results: dict) -> str:
    lines = [f"Machine: {results['machine']}. Medians, with the smallest and the largest value in brackets."]
    for suite, cases in results["suites"].items():
        repeats = len(next(iter(next(iter(cases.values())).values())))
        lines += [
            "",
            f"## {suite}, rounds: {repeats}",
            "",
            "| | way | rows/s | new tokens/s | peak memory, GB | times as fast as generate |",
        ]
        lines += ["|---|---|--:|--:|--:|--:|"]
        for case, ways in cases.items():
            for way, rounds in ways.items():
                cells = [
                    show_spread([each[key] for each in rounds]) for key in ("rows_per_second", "new_tokens_per_second")
                ]
                cells.append(f"{max(each['peak_memory_gb'] for each in rounds):.2f}")
                cells.append(show_ratios(rounds, ways[BEFORE]))
                lines.append(f"| {case} | {way} | {' | '.join(cells)} |")
    if results["alone"]:
        lines += ["", "## alone and among 16", ""]
        lines += [
            f"- {name}: {found['same']} of {found['replies']} replies are the same"
            for name, found in results["alone"].items()
        ]
    return "\n".join(lines) + "\n"


def show_spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def show_ratios(rounds: list[dict], others: list[dict]) -> str:
    """The ratio in rows per second, of each round by itself."""
    return show_spread(
        [each["rows_per_second"] / other["rows_per_second"] for each, other in zip(rounds, others, strict=True)]
    )


def draw(suites: dict) -> None:
    """One panel a suite: rows per second, each round a point, the median a bar."""
    figure, panels = pyplot.subplots(
        1, len(suites), figsize=(5 * len(suites), 4.5), squeeze=False, layout="constrained"
    )
    for panel, (suite, cases) in zip(panels[0], suites.items(), strict=True):
        ways = list(next(iter(cases.values())))
        width = 0.8 / len(ways)
        for place, way in enumerate(ways):
            for at, rounds in enumerate(cases[case][way] for case in cases):
                values = [each["rows_per_second"] for each in rounds]
                x = at - 0.4 + (place + 0.5) * width
                label = way if at == 0 else None
                panel.bar(x, statistics.median(values), width * 0.9, color=f"C{list(WAYS).index(way)}", label=label)
                panel.scatter([x] * len(values), values, color="black", s=8, zorder=3)
        panel.set_xticks(range(len(cases)), list(cases))
        panel.set_title(suite)
        panel.set_ylabel("prompts per second")
        panel.legend(fontsize=8)
    figure.savefig(FOLDER / "generation.png", dpi=120)


if __name__ == "__main__":
    main()
