"""The best of several replies: rows of predictions.jsonl that are chosen from candidates.jsonl."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import BEST_OF, CANDIDATES_FILE, PREDICTIONS_FILE
from response_generator.evaluation.predictions import RequestBatch, list_keys, row_key, write_batches
from response_generator.evaluation.predictions_file import Prediction
from response_generator.runs import batch_rows
from response_generator.scoring.best_of import ReplyScorer, choose_best


def list_best_of(args: EvaluateArguments, models: Sequence[str]) -> dict[str, str]:
    """The rows with the best replies, in the order of the run's models: `{name of the row: model that writes it}`."""
    if args.best_of is None:
        return {}
    wanted = args.best_of.models or models
    return {f"{model}{BEST_OF}{args.best_of.samples}": model for model in models if model in wanted}


def count_candidates(args: EvaluateArguments) -> int:
    """Candidates of each prompt: `best_of.samples` for each of its replies."""
    return args.best_of.samples * args.samples_per_prompt if args.best_of else 0


def choose_replies(args: EvaluateArguments, folder: Path, remaining: dict[str, list[RequestBatch]]) -> None:
    """Chooses the replies to `remaining` batches of each row, and appends them to predictions.jsonl.

    Args:
        folder: the run folder, whose candidates.jsonl has all candidates of these batches.

    Raises:
        KeyboardInterrupt: with a message that says how to continue.
    """
    if not any(remaining.values()):
        return
    scorer = ReplyScorer(args.best_of, args.label_set)
    candidates = {row_key(row): row for row in batch_rows.read_rows(folder / CANDIDATES_FILE)}
    for name, batches in remaining.items():
        choose_row(args, folder, name, batches, candidates, scorer)


def choose_row(
    args: EvaluateArguments,
    folder: Path,
    name: str,
    batches: list[RequestBatch],
    candidates: dict[tuple, Prediction],
    scorer: ReplyScorer,
) -> None:
    """Chooses the replies of one row; `candidates` are those of all rows by their keys."""

    def choose(batch: RequestBatch, report: Callable[[int], Any]) -> list[Prediction]:
        keys = list_keys(name, batch, count_candidates(args))
        return choose_rows([candidates[key] for key in keys], args.best_of.samples, scorer)

    def measure(rows: list[Prediction]) -> dict[str, int]:
        return {"replies": len(rows), "new_tokens": 0}  # their tokens were counted as they were generated

    file, samples = folder / PREDICTIONS_FILE, args.samples_per_prompt
    write_batches(file, name, f"{name}: choosing", batches, samples, choose, measure)


def choose_rows(rows: list[Prediction], size: int, scorer: ReplyScorer) -> list[Prediction]:
    """The best of every `size` rows, numbered anew as the samples of their prompt."""
    scores = scorer.score([row["response"] for row in rows], [row.get("target_emotion") for row in rows])
    chosen = []
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        best = choose_best([row["response"] for row in group], scores[start : start + size])
        chosen.append(group[best] | {"sample": group[0]["sample"] // size})
    return chosen
