"""How many prompts a minute get a pair: this program, and the original's way, with the same rules.

    python benchmarks/preferences.py [--prompts N] [--repeats N]

The original's way: one prompt after the other, the candidates of an attempt in one `generate`, and the classifiers
reply by reply. Both sample with the demo's base model, adapter, classifiers and rules (args/demo/preference_arg.json),
real dialogues where they are, and few attempts a prompt. Loading is not timed. Writes preferences.json and
preferences.md into this folder. Needs the models of `make demo`, and an idle machine.
"""

import argparse
import json
from pathlib import Path

from measuring import measure_rounds, read_results, write_table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "preferences.json"
ORIGINAL = "one prompt at a time"
WAYS = {"this program": {"way": "program"}, ORIGINAL: {"way": "one by one"}}
COLUMNS = {
    "prompts_per_minute": "prompts a minute",
    "attempts_per_minute": "attempts a minute",
    "accepted": "prompts with a pair",
    "attempts": "attempts",
    "peak_memory_gb": "peak memory, GB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    results = read_results(RESULTS)
    cases = {f"{options.prompts} prompts": {"prompts": options.prompts}}
    worker = FOLDER / "preferences_worker.py"
    results["suites"]["building"] = measure_rounds("building", worker, WAYS, cases, options.repeats)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    lines = [f"Machine: {results['machine']}. Medians, with the smallest and the largest value in brackets."]
    for key in ("prompts_per_minute", "attempts_per_minute"):
        lines += write_table(
            f"building, ratios of {COLUMNS[key]}", results["suites"]["building"], COLUMNS, (key, ORIGINAL)
        )
    text = "\n".join(lines) + "\n"
    (FOLDER / "preferences.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
