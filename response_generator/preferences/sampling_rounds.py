"""Samples candidates round by round until every prompt has a pair or has used up its attempts.

Prompts that have no pair yet are tried again together, so that later rounds have large batches, too. When few prompts
are left, several attempts of each are sampled at once; the first that gives a pair counts, as if they had been made one
after the other. The results of a round are in a file of its own, candidates/round-N.jsonl. A resumed run continues
there.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.constants import CANDIDATES_FOLDER
from response_generator.data.datasets import Dialogue, Pair
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    split_requests,
)
from response_generator.preferences.attempts import Attempt
from response_generator.preferences.pair_selection import select_pairs
from response_generator.preferences.preparation import PreparedBuilding
from response_generator.runs import batch_rows, distributed

PromptBatch = tuple[GenerationRequest, ...]
Sample = Callable[[PromptBatch, SamplingParams], list[list[Attempt]]]
AddRows = Callable[[list[dict[str, Any]], float], None]  # rows that were written, and the seconds they took
# Writes the rows of all prompts of a round to its file, but for those that are there, and adds all of them.
SampleRound = Callable[[Path, Sequence[GenerationRequest], SamplingParams, AddRows], None]


@dataclass
class Outcome:
    """What became of a prompt: how many attempts it took, why the failed ones failed, and its pairs."""

    prompt: Dialogue
    attempts: int = 0
    failures: Counter = field(default_factory=Counter)
    pairs: list[Pair] = field(default_factory=list)
    chosen_from: Attempt | None = None

    def add(self, attempt: Attempt, args: PreferenceDataArguments) -> None:
        self.attempts += 1
        if attempt.failure:
            self.failures[attempt.failure] += 1
        else:
            self.pairs = select_pairs(self.prompt, attempt, args)
            self.chosen_from = attempt


def sample_pairs(
    args: PreferenceDataArguments,
    folder: Path,
    prepared: PreparedBuilding,
    limit: BatchLimit,
    sample_round: SampleRound,
) -> list[Outcome]:
    """Samples what an earlier start has not sampled yet.

    Args:
        folder: the run folder.
        limit: the replies among which several attempts of few prompts are divided.

    Returns:
        The outcome of every prompt, in their order.

    Raises:
        KeyboardInterrupt: with a message that says how to continue.
    """
    outcomes = {request.dialogue.index: Outcome(request.dialogue) for request in prepared.requests}
    waiting, first_attempt, number = list(prepared.requests), 0, 1
    if distributed.is_main_process():  # it alone writes; another one may come here before there is the run folder
        (folder / CANDIDATES_FOLDER).mkdir(exist_ok=True)
    with batch_rows.progress_bar("prompts", len(waiting), "prompt") as bar:
        while waiting and first_attempt < args.max_attempts:
            attempts = count_attempts(waiting, args, prepared, limit, first_attempt)
            params = SamplingParams(
                prepared.generation_config, args.seed, attempts * args.candidates, first_attempt * args.candidates
            )
            file = folder / CANDIDATES_FOLDER / f"round-{number}.jsonl"

            def add(rows: list[dict[str, Any]], seconds: float) -> None:
                for row in rows:
                    for record in row["attempts"]:
                        outcomes[row["index"]].add(Attempt.from_record(record), args)
                show_progress(bar, list(outcomes.values()), args.max_attempts)

            try:
                sample_round(file, waiting, params, add)
            except KeyboardInterrupt as interruption:
                message = f"the finished batches are in {file.parent}; run the same command again to continue"
                raise KeyboardInterrupt(message) from interruption
            waiting = [request for request in waiting if not outcomes[request.dialogue.index].pairs]
            first_attempt, number = first_attempt + attempts, number + 1
    return list(outcomes.values())


def count_attempts(
    waiting: Sequence[GenerationRequest],
    args: PreferenceDataArguments,
    prepared: PreparedBuilding,
    limit: BatchLimit,
    first_attempt: int,
) -> int:
    """How many attempts of each prompt fit into one batch, at least one."""
    longest = max(request.length for request in waiting) + prepared.generation_config.max_new_tokens
    fitting = limit.count_rows(longest) // (len(waiting) * args.candidates)
    return max(1, min(fitting, args.max_attempts - first_attempt))


def sample_batches(
    sample: Sample,
    limit: BatchLimit,
    file: Path,
    waiting: Sequence[GenerationRequest],
    params: SamplingParams,
    add: AddRows,
) -> None:
    """A SampleRound by batches.

    Args:
        sample: samples and scores the attempts of each prompt of a batch, `params.samples / args.candidates` of them,
            and returns them up to the first that gave a pair.
    """
    rows, remaining = find_remaining(file, split_requests(waiting, params.config, params.samples, limit))
    add(rows, 0.0)
    batch_rows.map_batches(file, remaining, lambda batch: to_rows(batch, sample(batch, params)), add)


def find_remaining(file: Path, batches: list[PromptBatch]) -> tuple[list[dict[str, Any]], list[PromptBatch]]:
    """The rows of complete batches in a file of a round, and the other batches."""
    rows, remaining = batch_rows.find_remaining(
        file,
        [""],
        batches,
        lambda _, batch: [request.dialogue.index for request in batch],
        lambda row: row.get("index"),
    )
    return rows, remaining[""]


def to_rows(batch: Sequence[GenerationRequest], tried: Sequence[list[Attempt]]) -> list[dict[str, Any]]:
    """The rows of prompts with their attempts."""
    return [
        {"index": request.dialogue.index, "attempts": [attempt.to_record() for attempt in attempts]}
        for request, attempts in zip(batch, tried, strict=True)
    ]


def show_progress(bar: tqdm, outcomes: Sequence[Outcome], max_attempts: int) -> None:
    accepted = sum(bool(outcome.pairs) for outcome in outcomes)
    failed = sum(not outcome.pairs and outcome.attempts >= max_attempts for outcome in outcomes)
    bar.set_postfix(accepted=accepted, failed=failed, refresh=False)
    bar.update(accepted + failed - bar.n)
