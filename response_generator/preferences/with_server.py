"""Candidates from a server: while the classifiers score some, the server writes the next.

Candidates are in candidates/round-N-replies.jsonl as soon as the server has written them, and with their scores in
candidates/round-N.jsonl. So nothing that it wrote is lost, wherever the run is stopped.
"""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.constants import ADAPTER
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    decode_reply,
    make_batches,
)
from response_generator.generation.server import probe
from response_generator.generation.server.client import ServerClient
from response_generator.generation.server.completions import ServedModel
from response_generator.generation.server.facts import SERVER, follow_earlier_start
from response_generator.generation.server.local_model import compare_with_local
from response_generator.generation.server.side_by_side import ask_side_by_side
from response_generator.preferences.candidate_scorer import CandidateScorer
from response_generator.preferences.preparation import PreparedBuilding
from response_generator.preferences.sampling_rounds import AddRows, Outcome, find_remaining, sample_pairs, to_rows
from response_generator.runs import json_lines
from response_generator.runs.run_folder import RunFolder

FEW_PROMPTS = 64  # where fewer are left, several attempts at each are sampled at once
SCORED_AT_ONCE = 64  # prompts whose candidates an earlier start has left without scores


def check_server(args: PreferenceDataArguments, prepared: PreparedBuilding, generate: bool) -> dict[str, Any]:
    """What is found out about the server, for environment.json.

    Args:
        generate: let it also write a few replies.

    Raises:
        InputError: when the server cannot be used.
    """
    requests, config = prepared.requests, prepared.generation_config
    models = probe.ServerModels({"server.model": args.server.model}, frozenset())
    lengths = [request.length + config.max_new_tokens for request in requests]
    params = SamplingParams(config, args.seed, args.candidates) if generate else None
    facts = probe.examine_server(args.server, models, requests, lengths, prepared.formatter, params)
    if generate and args.server.compare_with_local:
        adapters, served = {ADAPTER: prepared.adapter}, {ADAPTER: args.server.model}
        facts["local_model"] = compare_with_local(args, adapters, served, facts["logprobs"], requests)
    return facts


def sample_pairs_by_server(
    args: PreferenceDataArguments, run: RunFolder, prepared: PreparedBuilding, facts: dict[str, Any] | None
) -> list[Outcome]:
    """See `building.build_pairs`."""
    with ServerClient(args.server) as client:
        sampler = ServerSampler(args, run, prepared, client, facts)
        limit = BatchLimit(FEW_PROMPTS * args.candidates)
        return sample_pairs(args, run.path, prepared, limit, sampler.sample_round)


class ServerSampler:
    """Samples and scores candidates. The server is asked, and the classifiers are loaded, when they are first needed.

    facts: of `check_server`; None: it was not asked yet.
    """

    def __init__(
        self,
        args: PreferenceDataArguments,
        run: RunFolder,
        prepared: PreparedBuilding,
        client: ServerClient,
        facts: dict[str, Any] | None,
    ):
        self.args, self.run, self.prepared, self.client, self.facts = args, run, prepared, client, facts
        self.model = ServedModel(client, args.server.model, args.server.send_seed)
        self.scorer: CandidateScorer | None = None
        self.has_begun, self.writing = False, threading.Lock()

    def begin(self) -> None:
        """Notes what the server does differently."""
        if self.has_begun:
            return
        facts = self.facts or check_server(self.args, self.prepared, generate=True)
        facts = follow_earlier_start(self.run.read_environment().get(SERVER), facts)
        self.run.note_environment({"generation_method": self.args.generation_method, SERVER: facts})
        self.has_begun = True

    def sample_round(
        self, file: Path, waiting: Sequence[GenerationRequest], params: SamplingParams, add: AddRows
    ) -> None:
        """A SampleRound, see there."""
        batches = make_batches(waiting, 1, lambda request: request.length)
        rows, remaining = find_remaining(file, batches)
        add(rows, 0.0)
        written_file = file.with_name(f"{file.stem}-replies.jsonl")
        rows, _ = find_remaining(written_file, batches)
        written = {row["index"]: row["texts"] for row in rows if len(row["texts"]) == params.samples}
        known = [request for (request,) in remaining if request.dialogue.index in written]
        for start in range(0, len(known), SCORED_AT_ONCE):
            group = known[start : start + SCORED_AT_ONCE]
            self.score(file, group, [written[request.dialogue.index] for request in group], add)
        asked = [request for (request,) in remaining if request.dialogue.index not in written]
        if asked:
            self.begin()

        def ask(request: GenerationRequest) -> list[str]:
            samples = self.model.sample(request, params)
            texts = [decode_reply(tokens, self.prepared.tokenizer) for tokens in samples]
            with self.writing:
                json_lines.append_jsonl(written_file, [{"index": request.dialogue.index, "texts": texts}])
            return texts

        for group in ask_side_by_side(ask, asked, self.client.concurrency):
            requests, texts = zip(*group, strict=True)
            self.score(file, requests, texts, add)
        written_file.unlink(missing_ok=True)

    def score(
        self, file: Path, requests: Sequence[GenerationRequest], texts: Sequence[list[str]], add: AddRows
    ) -> None:
        """Scores candidates, and appends them to the file of the round."""
        started = time.monotonic()
        self.scorer = self.scorer or CandidateScorer(self.args, self.prepared.prompts)
        rows = to_rows(requests, self.scorer.score(requests, texts))
        json_lines.append_jsonl(file, rows)
        add(rows, time.monotonic() - started)
