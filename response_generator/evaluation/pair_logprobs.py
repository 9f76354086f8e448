"""pair_logps.jsonl: the log-probabilities of both completions of every held-out preference pair under each model."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from response_generator.config.schema import PreferenceArguments
from response_generator.constants import ADAPTER, BASELINE, PAIR_LOGPS_FILE
from response_generator.data.tokenization import TokenizedPairs
from response_generator.errors import InputError
from response_generator.generation.oom import split_on_oom
from response_generator.generation.sampling import make_batches
from response_generator.modeling.dpo_loss import reward_margins
from response_generator.modeling.logprobs import completion_logps
from response_generator.runs import json_lines, resumable

SIDES = ("chosen", "rejected")

Batch = Sequence[tuple[int, dict[str, list[int]]]]  # pairs with their numbers


def row_key(row: dict[str, Any]) -> tuple:
    return row.get("model"), row.get("index")


def find_remaining_batches(
    folder: Path, models: Sequence[str], pairs: TokenizedPairs, batch_size: int
) -> dict[str, list[Batch]]:
    """The batches of pairs that each model still has to compute, the longest first.

    Raises:
        InputError: when the rows of an earlier start are of other pairs.
    """
    lengths = pairs.lengths()["whole"]
    numbered = list(enumerate(pairs.rows))
    batches = make_batches(numbered, max(1, batch_size // len(SIDES)), lambda pair: lengths[pair[0]])
    file = folder / PAIR_LOGPS_FILE
    rows, remaining = resumable.remaining_batches(
        file, models, batches, lambda model, batch: [(model, number) for number, _ in batch], row_key
    )
    for row in rows:
        if row["tokens"] != hash_pair(pairs.rows[row["index"]]):
            raise InputError(f"{file}: pair {row['index']} has changed since; name another output_dir")
    return remaining


def hash_pair(tokens: dict[str, list[int]]) -> str:
    """Identifies a pair by its token ids."""
    return hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()[:16]


def write_pair_logps(folder: Path, model_name: str, model: PeftModel, batches: list[Batch], pad_token_id: int) -> None:
    """Appends the log-probabilities (nats, summed over a completion and its EOS) of both completions of each pair."""
    if not batches:
        return

    def compute_rows(batch: Batch) -> list[dict[str, Any]]:
        texts = [(tokens["prompt_ids"], tokens[f"{side}_ids"]) for _, tokens in batch for side in SIDES]
        logps = split_on_oom(lambda part: completion_logps(model, part, pad_token_id), texts)
        return [
            {"index": number, "model": model_name, "tokens": hash_pair(tokens)}
            | {f"{side}_logp": round(logps[2 * place + at], 4) for at, side in enumerate(SIDES)}
            for place, (number, tokens) in enumerate(batch)
        ]

    with resumable.progress_bar(f"{model_name}: preference pairs", sum(map(len, batches)), "pair") as bar:
        resumable.map_batches(
            folder / PAIR_LOGPS_FILE, batches, compute_rows, lambda rows, seconds: bar.update(len(rows))
        )


def read_reward_margins(folder: Path, preferences: PreferenceArguments | None) -> np.ndarray:
    """Reward margins of the pairs, (pairs,), with the adapter as policy and the baseline as reference.

    Empty when `preferences` is None, or no pairs were measured.
    """
    if preferences is None:
        return np.array([])
    logps = {row_key(row): row for row in json_lines.read_jsonl(folder / PAIR_LOGPS_FILE)}
    pairs = sorted(index for model, index in logps if model == ADAPTER)
    columns = (
        np.array([logps[model, index][f"{side}_logp"] for index in pairs])
        for model in (ADAPTER, BASELINE)
        for side in SIDES
    )
    return reward_margins(*columns, beta=preferences.beta)
