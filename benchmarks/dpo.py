"""How fast this program trains with DPO, compared with TRL's trainer, on the demo's base model and adapter.

    python benchmarks/dpo.py [--suite SUITE …] [--repeats N]

Prompts and gold replies of real dialogues where they are, of the demo otherwise. The reference's log-probabilities are
part of the time, loading is not. TRL's trainer gets the same model, tokens and settings; "the original's recipe" is
TRL's trainer with gradient checkpointing and the reference computed at every step. The ways alternate, each in a
process of its own. Writes dpo.json, dpo.md and dpo.png into this folder. Needs the models of `make demo` and an idle
machine.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from measuring import Cases, draw_bars, measure_rounds, read_results, write_table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "dpo.json"
THIS, CHECKPOINTING = "this program", "this program, checkpointing"
ORIGINAL = "the original's recipe"
WAYS = {
    THIS: {"way": "program"},
    CHECKPOINTING: {"way": "program", "dpo": {"gradient_checkpointing": True}},
    "TRL, reference precomputed": {"way": "trl"},
    "TRL, reference precomputed, checkpointing": {"way": "trl", "dpo": {"gradient_checkpointing": True}},
    ORIGINAL: {"way": "original"},
}
# Each suite: the ways it compares, and the cases in which it compares them.
SUITES = {
    "three epochs": (list(WAYS), {"24 pairs": {"pairs": 24, "epochs": 3}}),
    "prompt length": (
        [THIS, CHECKPOINTING, ORIGINAL],
        {f"x{times}": {"pairs": 8, "epochs": 3, "prompt_times": times} for times in (1, 2, 4)},
    ),
    "reply length": (
        [THIS, CHECKPOINTING, ORIGINAL],
        {f"x{times}": {"pairs": 8, "epochs": 3, "reply_times": times} for times in (1, 4)},
    ),
}
COLUMNS = {
    "pairs_per_second": "pairs/s",
    "peak_memory_gb": "peak memory, GB",
    "prompt_tokens_mean": "tokens of a prompt",
    "reply_tokens_mean": "tokens of a reply",
    "last_loss": "last loss",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", choices=list(SUITES), default=list(SUITES))
    parser.add_argument("--repeats", type=int, default=2, help="rounds of each suite")
    options = parser.parse_args()
    results = read_results(RESULTS)
    for suite in options.suite:
        ways, cases = SUITES[suite]
        measured = measure_rounds(
            suite, FOLDER / "dpo_worker.py", {way: WAYS[way] for way in ways}, cases, options.repeats
        )
        results["suites"][suite] = measured
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "dpo.md").write_text(write_tables(results), encoding="utf-8")
    draw(results["suites"])
    print(write_tables(results))


def write_tables(results: dict) -> str:
    lines = [f"Machine: {results['machine']}. Medians, with the smallest and the largest value in brackets."]
    for suite, cases in results["suites"].items():
        lines += write_table(suite, cases, COLUMNS, ("pairs_per_second", ORIGINAL))
    return "\n".join(lines) + "\n"


def draw(suites: dict[str, Cases]) -> None:
    """Pairs per second above, peak memory below; one column a suite."""
    keys = {"pairs_per_second": "pairs per second", "peak_memory_gb": "peak memory, GB"}
    size = (4.5 * len(suites), 7)
    figure, panels = pyplot.subplots(len(keys), len(suites), figsize=size, squeeze=False, layout="constrained")
    for row, (key, title) in zip(panels, keys.items(), strict=True):
        for panel, (suite, cases) in zip(row, suites.items(), strict=True):
            draw_bars(panel, cases, key, list(WAYS))
            panel.set_title(suite)
            panel.set_ylabel(title)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(FOLDER / "dpo.png", dpi=120)


if __name__ == "__main__":
    main()
