"""How fast this program generates, compared with three other ways, on the demo's base model.

    python benchmarks/generation.py [--suite SUITE …] [--repeats N]

Every measurement runs in a process of its own. The ways alternate, so that a change of the machine's speed affects all
of them; ratios are of measurements of one round. Writes generation.json, generation.md and generation.png into this
folder.
Needs the models of `make demo`, and for llama.cpp benchmarks/requirements.txt; an idle machine.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from measuring import Cases, draw_bars, measure, measure_rounds, read_results, start_worker, write_table
from tqdm import tqdm

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
COLUMNS = {
    "rows_per_second": "prompts/s",
    "new_tokens_per_second": "new tokens/s",
    "peak_memory_gb": "peak memory, GB",
}
ALONE_CASES = {"bfloat16": {}, "float32": {"dtype": "float32"}}
ALONE_ROWS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", choices=[*SUITES, "alone"], default=[*SUITES, "alone"])
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each suite")
    options = parser.parse_args()
    results = {"alone": {}} | read_results(RESULTS)
    for suite in options.suite:
        if suite == "alone":
            results["alone"] = {name: compare_alone(case) for name, case in ALONE_CASES.items()}
        else:
            results["suites"][suite] = run_suite(suite, options.repeats)
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "generation.md").write_text(write_tables(results), encoding="utf-8")
    draw(results["suites"])
    print(write_tables(results))


def run_suite(name: str, repeats: int) -> Cases:
    ways, cases = SUITES[name]
    ways = [way for way in ways if way != LLAMA_CPP or can_run_llama_cpp()]
    return measure_rounds(name, WORKER, {way: WAYS[way] for way in ways}, cases, repeats)


def can_run_llama_cpp() -> bool:
    """Tries one prompt: a build for another processor ends with an illegal instruction."""
    done = start_worker(WORKER, WAYS[LLAMA_CPP] | {"rows": 1, "samples": 1})
    if done.returncode:
        tqdm.write(f"llama.cpp is left out: it ended with status {done.returncode}\n{done.stderr[-500:]}")
    return done.returncode == 0


def compare_alone(case: dict) -> dict[str, int]:
    """How many replies are the same when each is written alone and when 16 are written together."""
    alone, together = (
        measure(
            WORKER, {"way": "decoding", "batch": batch, "rows": ALONE_ROWS, "samples": 1, "keep_replies": True} | case
        )
        for batch in (1, 16)
    )
    same = sum(reply == together["replies"][index] for index, reply in alone["replies"].items())
    return {"same": same, "replies": len(alone["replies"])}


def write_tables(results: dict) -> str:
    lines = [f"Machine: {results['machine']}. Medians, with the smallest and the largest value in brackets."]
    for suite, cases in results["suites"].items():
        lines += write_table(suite, cases, COLUMNS, ("rows_per_second", BEFORE))
    if results["alone"]:
        lines += ["", "## alone and among 16", ""]
        lines += [
            f"- {name}: {found['same']} of {found['replies']} replies are the same"
            for name, found in results["alone"].items()
        ]
    return "\n".join(lines) + "\n"


def draw(suites: dict[str, Cases]) -> None:
    """One panel a suite: prompts per second."""
    figure, panels = pyplot.subplots(
        1, len(suites), figsize=(5 * len(suites), 4.5), squeeze=False, layout="constrained"
    )
    for panel, (suite, cases) in zip(panels[0], suites.items(), strict=True):
        draw_bars(panel, cases, "rows_per_second", list(WAYS))
        panel.set_title(suite)
        panel.set_ylabel("prompts per second")
        panel.legend(fontsize=8)
    figure.savefig(FOLDER / "generation.png", dpi=120)


if __name__ == "__main__":
    main()
