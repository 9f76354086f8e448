"""How many prompts a minute get a pair: this program, and the original's way, with the same rules.

    python benchmarks/preferences.py [--prompts N] [--repeats N]

The original's way: one prompt after the other, the candidates of an attempt in one `generate`, and the classifiers
reply by reply. Both sample with the demo's base model, adapter, classifiers and rules (args/demo/preference_arg.json),
real dialogues where they are, at most MAX_ATTEMPTS attempts a prompt. Loading is not timed. The ways alternate, each in
a process of its own. Writes preferences.json and preferences.md into this folder. Needs the models of `make demo` and
of `python -m response_generator.demo.pair_classifiers`, and an idle machine.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from tqdm import tqdm

FOLDER = Path(__file__).parent
ARGS_FILE = FOLDER.parent / "args" / "demo" / "preference_arg.json"
REAL_DIALOGUES = FOLDER.parent.parent / "shared" / "data" / "daily_dialog_for_RG" / "train_part.jsonl"
MAX_ATTEMPTS = 4
THIS, ORIGINAL = "this program", "one prompt at a time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=(THIS, ORIGINAL), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print("\n" + json.dumps(measure(options.way, options.prompts)))
        return
    rounds: dict[str, list[dict]] = {THIS: [], ORIGINAL: []}
    with tqdm(total=2 * options.repeats, unit="measurement") as bar:
        for _ in range(options.repeats):
            for way, results in rounds.items():
                command = [sys.executable, __file__, "--way", way, "--prompts", str(options.prompts)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results.append(json.loads(done.stdout.splitlines()[-1]))
                bar.update()
    (FOLDER / "preferences.json").write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    (FOLDER / "preferences.md").write_text(write_table(rounds), encoding="utf-8")
    print(write_table(rounds))


def measure(way: str, prompts: int) -> dict:
    from response_generator.config.preference_schema import PreferenceDataArguments
    from response_generator.config.validation import validate_arguments
    from response_generator.data.datasets import read_dialogues
    from response_generator.modeling.backend import import_backend

    values = json.loads(ARGS_FILE.read_text(encoding="utf-8")) | {"max_attempts": MAX_ATTEMPTS}
    del values["from_pretrained"]["dtype"]
    dialogues = REAL_DIALOGUES if REAL_DIALOGUES.is_file() else values["dataset"]["path"]
    values["dataset"] = {"path": str(dialogues), "limit": prompts}
    args = validate_arguments(PreferenceDataArguments, values, str(ARGS_FILE))
    rows, _ = read_dialogues(args.dataset)
    import_backend(args.backend)
    from response_generator.generation.sampling import BatchLimit
    from response_generator.preferences.building import CandidateSampler
    from response_generator.preferences.preparation import prepare
    from response_generator.preferences.sampling_rounds import sample_pairs
    from response_generator.preferences.windows import cut_windows
    from response_generator.runs.run_folder import RunFolder

    prepared = prepare(args, cut_windows(rows, args)[0])
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.at(folder, {})
        if way == THIS:
            with CandidateSampler(args, run, prepared) as sampler:
                sampler.load()
                start = time.perf_counter()
                limit = BatchLimit(args.batch_size)
                outcomes = sample_pairs(args, run.path, prepared, limit, partial(sampler.sample, limit))
                seconds = time.perf_counter() - start
                accepted, attempts = sum(bool(each.pairs) for each in outcomes), sum(each.attempts for each in outcomes)
        else:
            accepted, attempts, seconds = build_one_by_one(args, prepared)
    return {
        "prompts": len(prepared.requests),
        "accepted": accepted,
        "attempts": attempts,
        "seconds": seconds,
        "prompts_per_minute": 60 * len(prepared.requests) / seconds,
        "attempts_per_minute": 60 * attempts / seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def build_one_by_one(args, prepared) -> tuple[int, int, float]:
    """Accepted prompts, attempts and seconds."""
    import torch

    from response_generator.constants import ADAPTER
    from response_generator.generation.sampling import decode_reply
    from response_generator.generation.with_generate import sample_tokens
    from response_generator.modeling import inference
    from response_generator.preferences.attempts import score_attempt
    from response_generator.scoring import classifiers

    model = inference.load_model(args, {ADAPTER: prepared.adapter})
    emotions = classifiers.load_emotion_classifier(args.scoring)
    gibberish = classifiers.load_gibberish_classifier(args.scoring)
    torch.manual_seed(args.seed)
    accepted = attempts = 0
    start = time.perf_counter()
    with inference.use_adapter(model, prepared.adapter, ADAPTER):
        for request in prepared.requests:
            for _ in range(args.max_attempts):
                prompts = [request.prompt] * args.candidates
                tokens = sample_tokens(model, prepared.tokenizer, prompts, prepared.generation_config)
                texts = [decode_reply(each, prepared.tokenizer) for each in tokens]
                labels = {text: (emotions.classify([text])[0], gibberish.classify([text])[0]) for text in texts if text}
                attempts += 1
                if labels and not score_attempt(request.dialogue, texts, labels, args).failure:
                    accepted += 1
                    break
    return accepted, attempts, time.perf_counter() - start


def write_table(rounds: dict[str, list[dict]]) -> str:
    keys = ("prompts_per_minute", "attempts_per_minute", "accepted", "attempts", "peak_memory_gb")
    lines = [f"{rounds[THIS][0]['prompts']} prompts, {len(rounds[THIS])} rounds: median [least, greatest]", ""]
    lines += [f"| | {' | '.join(keys)} |", "|---" + "|--:" * len(keys) + "|"]
    for way, results in rounds.items():
        lines.append(f"| {way} | {' | '.join(show_spread([each[key] for each in results]) for key in keys)} |")
    for key in keys[:2]:
        ratios = [one[key] / other[key] for one, other in zip(rounds[THIS], rounds[ORIGINAL], strict=True)]
        lines += ["", f"{key}, ratio: {show_spread(ratios)}"]
    return "\n".join(lines) + "\n"


def show_spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()
