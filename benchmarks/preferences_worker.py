"""One measurement of benchmarks/preferences.py, in a process of its own, so that its peak memory is its own.

Reads the measurement as JSON from the command line and prints the result as JSON in the last line:

    python benchmarks/preferences_worker.py '{"way": "program", "prompts": 32}'
"""

import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from response_generator.config.args_file import ArgsFile
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.reading import read_dialogues
from response_generator.modeling.backend import import_backend

ROOT = Path(__file__).parent.parent
ARGS_FILE = ROOT / "args" / "demo" / "preference_arg.json"
REAL_DIALOGUES = ROOT.parent / "shared" / "data" / "daily_dialog_for_RG" / "train_part.jsonl"
MAX_ATTEMPTS = 4


def main(measurement: dict) -> dict:
    values = ArgsFile.read(ARGS_FILE).values | {"max_attempts": MAX_ATTEMPTS}
    del values["from_pretrained"]["dtype"]  # bfloat16 where the processor has it
    dialogues = REAL_DIALOGUES if REAL_DIALOGUES.is_file() else values["dataset"]["path"]
    values["dataset"] = {"path": str(dialogues), "limit": measurement["prompts"]}
    args = validate_arguments(PreferenceDataArguments, values, str(ARGS_FILE))
    rows, _ = read_dialogues(args.dataset, args.label_set)
    import_backend(args.backend)
    from response_generator.preferences.preparation import prepare_building
    from response_generator.preferences.windows import cut_windows

    prepared = prepare_building(args, cut_windows(rows, args)[0])
    accepted, attempts, seconds = WAYS[measurement["way"]](args, prepared)
    return {
        "prompts": len(prepared.requests),
        "accepted": accepted,
        "attempts": attempts,
        "seconds": seconds,
        "prompts_per_minute": 60 * len(prepared.requests) / seconds,
        "attempts_per_minute": 60 * attempts / seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def build_with_program(args: PreferenceDataArguments, prepared) -> tuple[int, int, float]:
    """Accepted prompts, attempts and seconds."""
    from response_generator.generation.generation_requests import BatchLimit
    from response_generator.preferences.building import CandidateSampler
    from response_generator.preferences.sampling_rounds import sample_batches, sample_pairs
    from response_generator.runs.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder), {})
        with CandidateSampler(args, run, prepared) as sampler:
            sampler.load()
            start = time.perf_counter()
            limit = BatchLimit(args.batch_size)
            sample_round = partial(sample_batches, partial(sampler.sample, limit), limit)
            outcomes = sample_pairs(args, run.path, prepared, limit, sample_round)
            seconds = time.perf_counter() - start
    return sum(bool(each.pairs) for each in outcomes), sum(each.attempts for each in outcomes), seconds


def build_one_by_one(args: PreferenceDataArguments, prepared) -> tuple[int, int, float]:
    """The original's way: accepted prompts, attempts and seconds."""
    import torch

    from response_generator.constants import ADAPTER
    from response_generator.generation.generation_requests import decode_reply
    from response_generator.generation.with_generate import sample_tokens
    from response_generator.modeling import inference
    from response_generator.preferences.candidate_scorer import score_attempt
    from response_generator.scoring import classifiers
    from response_generator.scoring.reward import read_penalized_words

    model = inference.load_model(args, {ADAPTER: prepared.adapter})
    emotions = classifiers.load_emotion_classifier(args.scoring)
    gibberish = classifiers.load_gibberish_classifier(args.scoring)
    penalized = read_penalized_words(args.reward, args.label_set)
    torch.manual_seed(args.seed)
    accepted = attempts = 0
    start = time.perf_counter()
    with inference.use_adapter(model, prepared.adapter, ADAPTER):
        for request in prepared.requests:
            for _ in range(args.max_attempts):
                prompts = [request.prompt_ids] * args.candidates
                tokens = sample_tokens(model, prompts, prepared.generation_config)
                texts = [decode_reply(each, prepared.tokenizer) for each in tokens]
                labels = {text: (emotions.classify([text])[0], gibberish.classify([text])[0]) for text in texts if text}
                attempts += 1
                if labels and not score_attempt(request.dialogue, texts, labels, args, penalized).failure:
                    accepted += 1
                    break
    return accepted, attempts, time.perf_counter() - start


WAYS = {"program": build_with_program, "one by one": build_one_by_one}

if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(sys.argv[1]))))
