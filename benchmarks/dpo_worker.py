"""One measurement of benchmarks/dpo.py, in a process of its own, so that its peak memory is its own.

Reads the measurement as JSON from the command line and prints the result as JSON in the last line:

    python benchmarks/dpo_worker.py '{"way": "program", "pairs": 24, "epochs": 3}'
"""

import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from response_generator.config.args_file import ArgsFile
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.reading import read_dialogues
from response_generator.modeling.backend import import_backend

ROOT = Path(__file__).parent.parent
ARGS_FILE = ROOT / "args" / "demo" / "dpo_arg.json"
REAL_DIALOGUES = ROOT.parent / "shared" / "data" / "daily_dialog_for_RG" / "validation.jsonl"
DEMO_DIALOGUES = ROOT / "response_generator" / "demo" / "data" / "dialogues_test.jsonl"
MAX_LENGTH = 8192  # tokens of the model's context: nothing is cut off
SHARED = {"loss_type": ["sigmoid"], "loss_weights": None, "max_length": MAX_LENGTH, "logging_steps": 1}
DPO = {
    "program": {},
    "trl": {"gradient_checkpointing": False, "train_sampling_strategy": "random"},
    "original": {
        "gradient_checkpointing": True,
        "train_sampling_strategy": "random",
        "precompute_ref_log_probs": False,
    },
}


def main(measurement: dict) -> dict:
    values = ArgsFile.read(ARGS_FILE).values
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # the reference is computed in every measurement
        values["output_dir"] = str(Path(folder, "run"))
        values["from_pretrained"]["max_seq_length"] = MAX_LENGTH
        values["dpo"] |= SHARED | {"num_train_epochs": measurement["epochs"], "save_strategy": "no"}
        values["dpo"] |= DPO[measurement["way"]] | measurement.get("dpo", {})
        arguments = validate_arguments(DPOArguments, values, str(ARGS_FILE))
        import_backend(arguments.backend)
        return measurement | train(arguments, measurement)


def train(arguments: DPOArguments, measurement: dict) -> dict:
    from response_generator.data.pair_tokenization import TokenizedPairs
    from response_generator.modeling import loading
    from response_generator.modeling.tokenizer import load_tokenizer
    from response_generator.training import trainer_config

    config = trainer_config.build_dpo_config(arguments)
    start = loading.resolve_initial_adapter(arguments)
    tokenizer = load_tokenizer(arguments, start)
    pairs = TokenizedPairs(rows=make_pairs(arguments, tokenizer, measurement))
    policy = loading.load_policy(arguments, start)
    seconds, losses = WAYS[measurement["way"]](arguments, config, policy, tokenizer, pairs)
    lengths = pairs.lengths()
    return {
        "prompt_tokens_mean": sum(lengths["prompt"]) / len(pairs.rows),
        "reply_tokens_mean": sum(lengths["chosen"] + lengths["rejected"]) / 2 / len(pairs.rows),
        "seconds": seconds,
        "pairs_per_second": len(pairs.rows) * measurement["epochs"] / seconds,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def make_pairs(arguments: DPOArguments, tokenizer, measurement: dict) -> list[dict[str, list[int]]]:
    """Prompts of dialogues over the whole range of lengths; chosen is the gold reply, rejected that of another one."""
    from response_generator.data.chat_template import ChatFormatter
    from response_generator.generation.generation_requests import GenerationRequest

    path = REAL_DIALOGUES if REAL_DIALOGUES.is_file() else DEMO_DIALOGUES
    dialogues, _ = read_dialogues(DatasetArguments(path=str(path)), arguments.label_set)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, arguments.label_set)
    requests = sorted((GenerationRequest.of(each, formatter) for each in dialogues), key=lambda each: each.length)
    count = measurement["pairs"]
    chosen = [requests[int((place + 0.5) * len(requests) / count)] for place in range(count)]
    random.Random(0).shuffle(chosen)
    prompt_times, reply_times = measurement.get("prompt_times", 1), measurement.get("reply_times", 1)
    return [
        {
            "prompt_ids": one.prompt_ids * prompt_times,
            "chosen_ids": one.gold_ids * reply_times,
            "rejected_ids": other.gold_ids * reply_times,
        }
        for one, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True)
    ]


def train_with_program(arguments, config, policy, tokenizer, pairs) -> tuple[float, list[float]]:
    """Seconds of the reference and of training together, and the losses."""
    from response_generator.training import reference, run_training, trainer_setup
    from response_generator.training.layout import batch_layout
    from response_generator.training.trl_trainers import ResumableDPOTrainer

    started = time.perf_counter()
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, pairs, None, [])
    layout = batch_layout.choose_layout(trainer, arguments.dpo)
    if layout != batch_layout.SHARED_PREFIX_LAYOUT:
        raise SystemExit(f"the run would train in the layout {layout}")
    reference.precompute_ref_logps(trainer)
    run_training.train(trainer)
    return time.perf_counter() - started, read_losses(trainer)


def train_with_trl(arguments, config, policy, tokenizer, pairs) -> tuple[float, list[float]]:
    """The same with TRL's own trainer, which takes the tokens as they are."""
    from trl import DPOTrainer

    class TokenizedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    started = time.perf_counter()
    config.precompute_ref_log_probs = arguments.dpo["precompute_ref_log_probs"]
    trainer = TokenizedDPOTrainer(policy, args=config, train_dataset=pairs.dataset(), processing_class=tokenizer)
    trainer.train()
    return time.perf_counter() - started, read_losses(trainer)


def read_losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


WAYS = {"program": train_with_program, "trl": train_with_trl, "original": train_with_trl}

if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(sys.argv[1]))))
