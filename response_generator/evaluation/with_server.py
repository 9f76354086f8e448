"""The replies of an evaluation, and the log-probabilities of gold replies and pairs, from a server.

Each prompt is a batch of its own: its rows are in the file as soon as the server has answered.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE, CANDIDATES_FILE, PAIR_LOGPS_FILE, PREDICTIONS_FILE, SIDES
from response_generator.evaluation import best_of, pair_logprobs, predictions
from response_generator.evaluation.pipeline import PreparedEvaluation, RemainingWork, find_remaining_work
from response_generator.generation.generation_requests import GenerationRequest, Replies, SamplingParams, make_batches
from response_generator.generation.server import probe
from response_generator.generation.server.client import ServerClient
from response_generator.generation.server.completions import ServedModel
from response_generator.generation.server.facts import SERVER, follow_earlier_start
from response_generator.generation.server.local_model import compare_with_local
from response_generator.generation.server.side_by_side import ask_side_by_side
from response_generator.runs import batch_rows, json_lines
from response_generator.runs.run_folder import RunFolder

CHOSEN_AT_ONCE = 64  # prompts whose best replies are chosen together


def name_models(args: EvaluateArguments, prepared: PreparedEvaluation) -> probe.ServerModels:
    names = {"server.baseline_model": args.server.baseline_model, "server.model": args.server.model}
    bases = [args.server.baseline_model] if prepared.adapters.get(BASELINE, ADAPTER) is None else []
    return probe.ServerModels({key: name for key, name in names.items() if name is not None}, frozenset(bases))


def check_server(args: EvaluateArguments, prepared: PreparedEvaluation, generate: bool) -> dict[str, Any]:
    """What is found out about the server, for environment.json.

    Args:
        generate: let it also write a few replies.

    Raises:
        InputError: when the server cannot be used.
    """
    longest_reply = prepared.generation_config.max_new_tokens
    # One token more than a gold reply has: a server tells log-probabilities of a prompt, after which it writes a token.
    lengths = [each.length + max(longest_reply, len(each.gold_ids) + 1) for each in prepared.requests]
    lengths += [length + 1 for length in prepared.held_out.lengths()["whole"]] if prepared.held_out else []
    params = SamplingParams(prepared.generation_config, args.seed, args.samples_per_prompt) if generate else None
    models, requests = name_models(args, prepared), prepared.requests
    facts = probe.examine_server(args.server, models, requests, lengths, prepared.formatter, params)
    if generate and args.server.compare_with_local:
        served = {name: name_served(args, name) for name in prepared.adapters}
        facts["local_model"] = compare_with_local(args, prepared.adapters, served, facts["logprobs"], requests)
    return facts


def name_served(args: EvaluateArguments, model: str) -> str:
    """What the server calls ADAPTER or BASELINE."""
    return args.server.model if model == ADAPTER else args.server.baseline_model


def write_missing(
    args: EvaluateArguments, run: RunFolder, prepared: PreparedEvaluation, facts: dict[str, Any] | None
) -> bool:
    """Does the same as `pipeline.write_missing` with a server.

    Args:
        facts: of `check_server`; None: it is asked only if it is needed.
    """

    def split(samples: int) -> list[predictions.RequestBatch]:
        return make_batches(prepared.requests, 1, lambda request: request.length)

    remaining = find_remaining_work(args, run, prepared, split, pairs_per_batch=1)
    earlier = run.read_environment().get(SERVER)
    if earlier and not earlier["logprobs"]:
        remaining = replace(remaining, pairs={})
    if remaining.needs_model:
        facts = facts or check_server(args, prepared, generate=True)
        facts = follow_earlier_start(earlier, facts)
        run.note_environment({"generation_method": args.generation_method, SERVER: facts})
        write_remaining(args, run, prepared, remaining, facts["logprobs"])
    elif not any(remaining.choices.values()):
        return False
    choices = {name: join_batches(batches, CHOSEN_AT_ONCE) for name, batches in remaining.choices.items()}
    best_of.choose_replies(args, run.path, choices)
    return True


def join_batches(batches: list[predictions.RequestBatch], size: int) -> list[predictions.RequestBatch]:
    requests = list(chain.from_iterable(batches))
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def write_remaining(
    args: EvaluateArguments,
    run: RunFolder,
    prepared: PreparedEvaluation,
    remaining: RemainingWork,
    logprobs: str | None,
) -> None:
    params = SamplingParams(prepared.generation_config, args.seed, args.samples_per_prompt)
    candidate_params = replace(params, samples=best_of.count_candidates(args), first_sample=params.samples)
    rows = {model: row for row, model in best_of.list_best_of(args, list(prepared.adapters)).items()}
    with ServerClient(args.server) as client:
        for model in prepared.adapters:
            served = ServedModel(client, name_served(args, model), args.server.send_seed, logprobs)
            writer = ServerWriter(run.path, prepared, served)
            writer.write_replies(model, PREDICTIONS_FILE, remaining.replies[model], params)
            if model in rows:
                writer.write_replies(rows[model], CANDIDATES_FILE, remaining.candidates[rows[model]], candidate_params)
            if logprobs:
                writer.write_pair_logps(model, remaining.pairs.get(model, []))


class ServerWriter:
    """Appends what a model of the server answers to the files of a run folder, each answer at once."""

    def __init__(self, folder: Path, prepared: PreparedEvaluation, model: ServedModel):
        self.folder, self.prepared, self.model = folder, prepared, model

    def write_replies(
        self, name: str, file_name: str, batches: list[predictions.RequestBatch], params: SamplingParams
    ) -> None:
        """Appends the rows of `name` to predictions.jsonl or candidates.jsonl, and the speed to throughput.jsonl."""
        file = self.folder / file_name
        requests = list(chain.from_iterable(batches))
        started = time.monotonic()

        def ask(request: GenerationRequest) -> Replies:
            samples = self.model.sample(request, params)
            return Replies(request, samples, self.model.compute_logp(request.prompt_ids, request.gold_ids))

        with show_progress(f"{name}: generating", len(requests) * params.samples, "reply", file) as bar:
            for group in ask_side_by_side(ask, requests, self.model.client.concurrency):
                replies = [each for _, each in group]
                predictions.check_gold_logps(replies)
                rows = [row for each in replies for row in predictions.to_records(name, each, self.prepared.tokenizer)]
                json_lines.append_jsonl(file, rows)
                now = time.monotonic()
                predictions.append_speed(file, name, predictions.count_tokens(rows, file), now - started)
                started = now
                bar.update(len(rows))

    def write_pair_logps(self, name: str, batches: list[pair_logprobs.PairBatch]) -> None:
        """Appends the rows of `name` to pair_logps.jsonl."""
        file = self.folder / PAIR_LOGPS_FILE
        pairs = list(chain.from_iterable(batches))

        def ask(pair: tuple[int, pair_logprobs.PairTokens]) -> list[float]:
            _, tokens = pair
            return [self.model.compute_logp(tokens["prompt_ids"], tokens[f"{side}_ids"]) for side in SIDES]

        with show_progress(f"{name}: preference pairs", len(pairs), "pair", file) as bar:
            for group in ask_side_by_side(ask, pairs, self.model.client.concurrency):
                rows = [pair_logprobs.to_row(name, number, tokens, logps) for (number, tokens), logps in group]
                json_lines.append_jsonl(file, rows)
                bar.update(len(rows))


@contextmanager
def show_progress(task: str, total: int, unit: str, file: Path) -> Iterator[tqdm]:
    """A progress bar; a KeyboardInterrupt gets a message that says how to continue."""
    with batch_rows.progress_bar(task, total, unit) as bar:
        try:
            yield bar
        except KeyboardInterrupt as interruption:
            message = f"what is finished is in {file}; run the same command again to continue"
            raise KeyboardInterrupt(message) from interruption
