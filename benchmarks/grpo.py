"""DPO of the demo beside its rivals: GRPO with the reward that chose the pairs, and SFT on the chosen replies.

    python benchmarks/grpo.py [--learning_rate RATE …] [--minutes N] [--limit N]

All start from the demo's SFT adapter, on the prompts of the demo's pairs. DPO's minutes are those of building the pairs
and of training on them, without evaluations during training; GRPO samples and trains for as many minutes by the clock,
on the same machine. The pairs are built in float32, as in the demo; GRPO samples in bfloat16 where the processor has
it, and so gets more replies a minute. SFT ("rejection sampling", docs/sft.md) has the pairs of DPO, with the settings
of args/demo/sft_arg.json, and with DPO's learning rate for one epoch. Each way's minutes include loading. Then
evaluate.py lets all of them reply to the demo's test prompts, and compares them with the SFT adapter and with DPO.

What is finished is kept, in runs/grpo. Writes grpo.json and grpo.md into this folder, but not with --limit. Needs the
models of `make demo`, a processor (no GPU is used) and an idle machine.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measuring import describe_machine

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
SFT_ADAPTER = "response_generator/demo/sft_adapter"
SFT, DPO, GRPO = "SFT", "DPO", "GRPO"
LEARNING_RATE = 2e-4  # that of the demo's DPO
# What each changes of args/demo/sft_arg.json.
REJECTION_SAMPLING = {
    "rejection_sampling": {},
    "rejection_sampling_as_DPO": {"sft.learning_rate": LEARNING_RATE, "sft.num_train_epochs": 1},
}
MIN_LIMIT = 8  # prompts in a step of GRPO
# By their names in metrics.json: titles, and what the values are multiplied by.
METRICS = {
    "emotion_accuracy": ("followed, %", 100),
    "followed_unnamed": ("followed and not named, %", 100),
    "names_emotion": ("names its emotion, %", 100),
    "mean_new_tokens": ("tokens", 1),
    "distinct_2": ("distinct-2", 1),
    "fit": ("fit, nats", 1),
    "gold_perplexity": ("gold perplexity", 1),
}

Ways = dict[str, tuple[str, float | None]]  # adapter and minutes by the way's name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learning_rate", type=float, nargs="+", default=[LEARNING_RATE], help="of GRPO, a row each")
    parser.add_argument("--minutes", type=float, help="of GRPO (default: those of DPO and its pairs together)")
    parser.add_argument("--limit", type=int, help="a trial with this many training and test dialogues")
    options = parser.parse_args()
    if options.limit is not None and options.limit < MIN_LIMIT:
        parser.error(f"--limit: got {options.limit}; needed: {MIN_LIMIT} or more")
    steps = Steps(ROOT / "runs" / ("grpo" if options.limit is None else f"grpo_{options.limit}"))
    ways = train_all(steps, options)
    metrics = {SFT: evaluate(steps, ways, SFT, options.limit), DPO: evaluate(steps, ways, DPO, options.limit)}
    results = {"machine": describe_machine(), "minutes": {way: each for way, (_, each) in ways.items()}}
    results["grpo"] = {way: read_training(steps.folder / way) for way in ways if way.startswith(GRPO)}
    results["metrics"] = {f"beside {base}": select_metrics(each) for base, each in metrics.items()}
    table = write_tables(results, metrics, list(ways))
    if options.limit is None:
        (FOLDER / "grpo.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        (FOLDER / "grpo.md").write_text(table, encoding="utf-8")
    print(table)


class Steps:
    """Commands that each write a folder of their own, and how long they took. A finished one is not run again."""

    def __init__(self, folder: Path):
        self.folder, self.file = folder, folder / "steps.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.finished = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def run(self, name: str, command: list[str]) -> float:
        """Runs the command, from the start if it was interrupted: its minutes are those of the whole command."""
        if self.finished.get(name, {}).get("command") != command:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self.forget_readers(name)
            print(f"{name}: {' '.join(command)}", flush=True)
            started = time.monotonic()
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
            self.finished[name] = {"command": command, "minutes": (time.monotonic() - started) / 60}
            self.file.write_text(json.dumps(self.finished, indent=2) + "\n", encoding="utf-8")
        return self.finished[name]["minutes"]

    def forget_readers(self, name: str) -> None:
        """Lets those that read the folder run again."""
        folder = str(self.folder / name)
        self.finished = {
            other: each for other, each in self.finished.items() if folder not in " ".join(each["command"])
        }

    def run_program(self, name: str, program: list[str], args_file: str, changes: dict) -> float:
        """Runs a program of the project with changes of one of the demo's args files."""
        changes = {"output_dir": str(self.folder / name), "wandb.mode": "disabled"} | changes
        sets = [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        return self.run(name, [*program, "--json_file", f"args/demo/{args_file}", *sets])


def train_all(steps: Steps, options: argparse.Namespace) -> Ways:
    """Trains each way, except for SFT, which is there."""
    limit = {} if options.limit is None else {"dataset.limit": options.limit}
    pairs = steps.run_program("pairs", ["-m", "response_generator.preferences"], "preference_arg.json", limit)
    data = {"dataset.path": str(steps.folder / "pairs" / "preferences.jsonl"), "eval_dataset": None}
    dpo_changes = data | {"dpo.eval_strategy": "no", "sample_replies": None}
    dpo = steps.run_program(DPO, ["fine_tune_dpo.py"], "dpo_arg.json", dpo_changes)
    minutes = {DPO: pairs + dpo}
    sft_changes = data | {"dataset.columns.completion": "chosen", "adapter": SFT_ADAPTER, "lora": None}
    sft_changes |= {"sft.eval_strategy": "no"}
    for name, own in REJECTION_SAMPLING.items():
        training = steps.run_program(name, ["-m", "response_generator.sft"], "sft_arg.json", sft_changes | own)
        minutes[name] = pairs + training
    for rate in options.learning_rate:
        name = f"{GRPO}_{rate:g}"
        measurement = {"output_dir": str(steps.folder / name), "learning_rate": rate, "limit": options.limit}
        measurement["minutes"] = options.minutes or pairs + dpo
        minutes[name] = steps.run(name, ["benchmarks/grpo_worker.py", json.dumps(measurement)])
    trained = {name: (str(steps.folder / name / "adapter"), each) for name, each in minutes.items()}
    return {SFT: (SFT_ADAPTER, None)} | trained


def evaluate(steps: Steps, ways: Ways, base: str, limit: int | None) -> dict[str, float]:
    """The metrics of all ways on the test prompts, compared with one of them."""
    folders = {}
    for way, (adapter, _) in ways.items():
        name = f"evaluate_{way}"
        changes = {"adapter": adapter, "baseline_adapter": None, "best_of": None, "heldout_pairs": None}
        changes |= {} if limit is None else {"dataset.limit": limit}
        steps.run_program(name, ["evaluate.py"], "evaluate_arg.json", changes)
        folders[way] = f"{way}={steps.folder / name}"
    others = [folder for way, folder in folders.items() if way != base]
    output = steps.folder / f"beside_{base}"
    shutil.rmtree(output, ignore_errors=True)
    command = ["evaluate.py", "--compare", folders[base], *others, "--output_dir", str(output)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def read_training(folder: Path) -> dict[str, float]:
    """Steps of GRPO, its replies and their mean reward at the start and at the end."""
    training = json.loads((folder / "grpo.json").read_text(encoding="utf-8"))
    rewards = [entry["reward"] for entry in training["log"]]
    few = min(5, len(rewards))
    return {
        "steps": training["steps"],
        "replies": training["replies"],
        "reward_of_first_steps": sum(rewards[:few]) / few,
        "reward_of_last_steps": sum(rewards[-few:]) / few,
    }


def select_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Those of the tables, with their intervals."""
    return {key: value for key, value in metrics.items() if {*key.split("/")} & METRICS.keys()}


def write_tables(results: dict, metrics: dict[str, dict[str, float]], ways: list[str]) -> str:
    titles = " | ".join(title for title, _ in METRICS.values())
    prompts = metrics[SFT]["prompts"]
    lines = [f"Machine: {results['machine']}. {prompts} test prompts; 95 % intervals over the prompts in brackets."]
    lines += ["", f"| | minutes | {titles} |", "|---|--:|" + "--:|" * len(METRICS)]
    for way in ways:
        minutes = f"{results['minutes'][way]:.1f}" if results["minutes"][way] else "–"
        lines.append(f"| {way} | {minutes} | {write_cells(metrics[SFT], way)} |")
    for base, compared in metrics.items():
        lines += ["", f"Differences from {base}:", "", f"| | {titles} |", "|---|" + "--:|" * len(METRICS)]
        lines += [f"| {way} | {write_cells(compared, f'difference of {way}')} |" for way in ways if way != base]
    lines.append("")
    for way, each in results["grpo"].items():
        lines.append(
            f"{way}: {each['steps']} steps, {each['replies']} replies; mean reward {each['reward_of_first_steps']:.2f} "
            f"in the first steps, {each['reward_of_last_steps']:.2f} in the last ones."
        )
    return "\n".join(lines) + "\n"


def write_cells(metrics: dict[str, float], group: str) -> str:
    return " | ".join(write_cell(metrics, f"{group}/{name}", scale) for name, (_, scale) in METRICS.items())


def write_cell(metrics: dict[str, float], key: str, scale: float) -> str:
    """The value with its interval and its p-value, where it has them."""
    if key not in metrics:
        return "–"
    digits = 1 if scale == 100 else 2
    cell = f"{scale * metrics[key]:.{digits}f}"
    if f"{key}/low" in metrics:
        cell += f" [{scale * metrics[f'{key}/low']:.{digits}f}, {scale * metrics[f'{key}/high']:.{digits}f}]"
    return cell + (f", p {metrics[f'{key}/p']:.2g}" if f"{key}/p" in metrics else "")


if __name__ == "__main__":
    main()
