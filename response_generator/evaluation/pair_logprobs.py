"""pair_logps.jsonl: how likely each model finds the two replies of every held-out preference pair."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from response_generator.config.schema import PreferenceArguments
from response_generator.data.tokenization import TokenizedPairs
from response_generator.errors import InputError
from response_generator.evaluation.predictions_file import ADAPTER, BASELINE
from response_generator.generation.oom import split_on_oom
from response_generator.generation.sampling import batches
from response_generator.modeling.logprobs import log_probabilities
from response_generator.runs import json_lines, resumable
from response_generator.runs.run_folder import PAIR_LOGPS

FILE = PAIR_LOGPS
SIDES = ("chosen", "rejected")

Batch = Sequence[tuple[int, dict[str, list[int]]]]  # pairs with their numbers


def key(row: dict[str, Any]) -> tuple:
    return row.get("model"), row.get("index")


def outstanding(folder: Path, models: Sequence[str], pairs: TokenizedPairs, batch_size: int) -> dict[str, list[Batch]]:
    """The batches of pairs that each model has still to read, the longest first.

    Raises:
        InputError: when what an earlier start has left is of other pairs.
    """
    lengths = pairs.lengths()["whole"]
    numbered = list(enumerate(pairs.rows))
    of_like_length = batches(numbered, max(1, batch_size // len(SIDES)), lambda pair: lengths[pair[0]])
    rows, left = resumable.remaining_batches(
        folder / FILE, models, of_like_length, lambda model, batch: [(model, number) for number, _ in batch], key
    )
    for row in rows:
        if row["tokens"] != digest(pairs.rows[row["index"]]):
            raise InputError(f"{folder / FILE}: pair {row['index']} has changed since; name another output_dir")
    return left


def digest(tokens: dict[str, list[int]]) -> str:
    """Tells a pair from every other, as the model reads it."""
    return hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()[:16]


def measure(folder: Path, model_name: str, model: PeftModel, left: list[Batch], pad: int) -> None:
    """Adds the log-probabilities (nats, summed over a reply with its EOS) of both sides under one model."""
    if not left:
        return

    def work(batch: Batch) -> list[dict[str, Any]]:
        texts = [(tokens["prompt_ids"], tokens[f"{side}_ids"]) for _, tokens in batch for side in SIDES]
        logps = split_on_oom(lambda some: log_probabilities(model, some, pad), texts)
        return [
            {"index": number, "model": model_name, "tokens": digest(tokens)}
            | {f"{side}_logp": round(logps[2 * place + at], 4) for at, side in enumerate(SIDES)}
            for place, (number, tokens) in enumerate(batch)
        ]

    with resumable.progress(f"{model_name}: preference pairs", sum(map(len, left)), "pair") as bar:
        resumable.map_batches(folder / FILE, left, work, lambda rows, seconds: bar.update(len(rows)))


def margins(folder: Path, preferences: PreferenceArguments | None) -> np.ndarray:
    """Reward margins of the pairs (pairs,), by the implicit reward of DPO (Rafailov et al. 2023, section 4):

    beta * (log pi(chosen) - log pi_ref(chosen)) - beta * (log pi(rejected) - log pi_ref(rejected))

    where pi is the adapter and pi_ref the baseline. Empty when no pairs are asked for, or none were measured.
    """
    logps = {}
    if preferences is None:
        return np.array([])
    for row in json_lines.read_jsonl(folder / FILE):
        logps[key(row)] = row["chosen_logp"] - row["rejected_logp"]
    pairs = sorted(index for model, index in logps if model == ADAPTER)
    return preferences.beta * np.array([logps[ADAPTER, index] - logps[BASELINE, index] for index in pairs])
