"""pair_logps.jsonl: the log-probabilities of both completions of every held-out preference pair under each model."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel

from response_generator.config.schema import HeldOutPairArguments
from response_generator.constants import ADAPTER, BASELINE, PAIR_LOGPS_FILE, SIDES
from response_generator.data.pair_tokenization import TokenizedPairs
from response_generator.errors import InputError
from response_generator.generation.generation_requests import make_batches
from response_generator.generation.oom import split_on_oom
from response_generator.generation.prefix import compute_prefix, split_by_tokens
from response_generator.modeling.dpo_loss import reward_margins
from response_generator.modeling.logprobs import completion_logps
from response_generator.runs import batch_rows, json_lines

PAIRS_PER_BATCH = 32  # that are written to the file at once

PairTokens = dict[str, list[int]]  # prompt_ids, chosen_ids, rejected_ids
PairBatch = Sequence[tuple[int, PairTokens]]  # pairs with their numbers
ComputeLogps = Callable[[Sequence[PairTokens]], list[tuple[float, float]]]


def row_key(row: dict[str, Any]) -> tuple:
    return row.get("model"), row.get("index")


def find_remaining_batches(
    folder: Path, models: Sequence[str], pairs: TokenizedPairs, size: int = PAIRS_PER_BATCH
) -> dict[str, list[PairBatch]]:
    """The batches of `size` pairs that each model still has to compute, the longest first.

    Raises:
        InputError: when the rows of an earlier start are of other pairs.
    """
    lengths = pairs.lengths()["whole"]
    numbered = list(enumerate(pairs.rows))
    batches = make_batches(numbered, size, lambda pair: lengths[pair[0]])
    file = folder / PAIR_LOGPS_FILE
    rows, remaining = batch_rows.find_remaining(
        file, models, batches, lambda model, batch: [(model, number) for number, _ in batch], row_key
    )
    for row in rows:
        if row.get("tokens") != hash_pair(pairs.rows[row["index"]]):
            raise InputError(f"{file}: pair {row['index']} has changed since; name another output_dir")
    return remaining


def hash_pair(tokens: PairTokens) -> str:
    """Identifies a pair by its token ids."""
    return hashlib.sha256(json.dumps(tokens, sort_keys=True).encode()).hexdigest()[:16]


def write_pair_logps(folder: Path, model_name: str, compute_logps: ComputeLogps, batches: list[PairBatch]) -> None:
    """Appends the log-probabilities (nats, summed over a completion and its EOS) of both completions of each pair."""
    if not batches:
        return

    def compute_rows(batch: PairBatch) -> list[dict[str, Any]]:
        logps = split_on_oom(compute_logps, [tokens for _, tokens in batch])
        return [
            to_row(model_name, number, tokens, of_pair) for (number, tokens), of_pair in zip(batch, logps, strict=True)
        ]

    with batch_rows.progress_bar(f"{model_name}: preference pairs", sum(map(len, batches)), "pair") as bar:
        batch_rows.map_batches(
            folder / PAIR_LOGPS_FILE, batches, compute_rows, lambda rows, seconds: bar.update(len(rows))
        )


def to_row(model_name: str, number: int, tokens: PairTokens, logps: Sequence[float]) -> dict[str, Any]:
    """A row of the file; `logps` in the order of SIDES."""
    return {"index": number, "model": model_name, "tokens": hash_pair(tokens)} | {
        f"{side}_logp": round(logp, 4) for side, logp in zip(SIDES, logps, strict=True)
    }


def compute_pair_logps(model: PeftModel, pad_token_id: int, pairs: Sequence[PairTokens]) -> list[tuple[float, float]]:
    """Computes the log-probabilities (nats) of each pair's chosen and rejected completion, each prompt once."""
    logps = []
    for group in split_by_tokens(pairs, model.device, lambda pair: len(pair["prompt_ids"]) + len(pair["chosen_ids"])):
        prompts, chosen, rejected = ([pair[f"{part}_ids"] for pair in group] for part in ("prompt", *SIDES))
        prefix, chosen_logps = compute_prefix(model, prompts, pad_token_id, chosen)
        logps += zip(chosen_logps, prefix.completion_logps(rejected, pad_token_id), strict=True)
    return logps


def compute_pair_logps_apart(
    model: PeftModel, pad_token_id: int, pairs: Sequence[PairTokens]
) -> list[tuple[float, float]]:
    """`compute_pair_logps` for models whose KV cache cannot be used: a prompt is computed for each completion."""
    texts = [(pair["prompt_ids"], pair[f"{side}_ids"]) for pair in pairs for side in SIDES]
    logps = completion_logps(model, texts, pad_token_id)
    return list(zip(logps[::2], logps[1::2], strict=True))


def read_reward_margins(folder: Path, heldout_pairs: HeldOutPairArguments | None) -> np.ndarray:
    """Reward margins of the pairs, (pairs,), with the adapter as policy and the baseline as reference.

    Empty when `heldout_pairs` is None, or no pairs were measured.

    Raises:
        InputError: when the file does not have every pair under both models.
    """
    if heldout_pairs is None:
        return np.array([])
    file = folder / PAIR_LOGPS_FILE
    logps = {row_key(row): row for row in json_lines.read_jsonl(file)}
    pairs = sorted({index for _, index in logps})
    missing = sum((model, index) not in logps for model in (ADAPTER, BASELINE) for index in pairs)
    if missing:
        raise InputError(
            f"{file}: {missing} rows are missing: it needs every pair under both models; copy the whole file of the "
            f"run, or pass --set heldout_pairs=null"
        )
    columns = (
        np.array([logps[model, index][f"{side}_logp"] for index in pairs])
        for model in (ADAPTER, BASELINE)
        for side in SIDES
    )
    return reward_margins(*columns, beta=heldout_pairs.beta)
