"""Builds preference pairs: samples candidates with the model, scores them with the classifiers, and keeps pairs."""

import hashlib
import json
from contextlib import ExitStack
from functools import partial
from typing import Any

from peft import PeftModel

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.constants import ADAPTER
from response_generator.errors import InputError
from response_generator.generation import batch_limit, method
from response_generator.generation.generation_requests import BatchLimit, SamplingParams, decode_reply
from response_generator.modeling import base_model, inference
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.preferences import with_server
from response_generator.preferences.attempts import Attempt
from response_generator.preferences.candidate_scorer import CandidateScorer
from response_generator.preferences.preparation import PreparedBuilding
from response_generator.preferences.sampling_rounds import Outcome, PromptBatch, sample_batches, sample_pairs
from response_generator.runs.run_folder import RunFolder

PROMPTS_DIGEST = "prompts_sha256"  # in environment.json


def build_pairs(
    args: PreferenceDataArguments, run: RunFolder, prepared: PreparedBuilding, facts: dict[str, Any] | None
) -> list[Outcome]:
    """The outcome of every prompt. What an earlier start of the same run has sampled is not sampled again.

    Args:
        facts: what is known of the server, see `with_server.check_server`; None without one, or where it was not asked.

    Raises:
        InputError: when an earlier start of the run had other prompts.
    """
    check_prompts(run, prepared)
    if args.server:
        return with_server.sample_pairs_by_server(args, run, prepared, facts)
    limit = batch_limit.read_batch_limit(run, args.batch_size)
    with CandidateSampler(args, run, prepared) as sampler:
        limit = limit or sampler.measure_limit()
        sample_round = partial(sample_batches, partial(sampler.sample, limit), limit)
        return sample_pairs(args, run.path, prepared, limit, sample_round)


def check_prompts(run: RunFolder, prepared: PreparedBuilding) -> None:
    """Notes a digest of all prompts, and compares it with that of an earlier start."""
    tokens = [request.prompt_ids for request in prepared.requests]
    digest = hashlib.sha256(json.dumps(tokens).encode("utf-8")).hexdigest()
    earlier = run.read_environment().get(PROMPTS_DIGEST, digest)
    if earlier != digest:
        raise InputError(
            f"{run.path}: dataset and chat_template give other prompts than when this run was started: they have "
            f"changed since; name another output_dir"
        )
    run.note_environment({PROMPTS_DIGEST: digest})


class CandidateSampler:
    """Samples and scores candidates. Model and classifiers are loaded when the first batch is sampled."""

    def __init__(self, args: PreferenceDataArguments, run: RunFolder, prepared: PreparedBuilding):
        self.args, self.run, self.prepared = args, run, prepared
        self.model: PeftModel | None = None
        self.contexts = ExitStack()

    def __enter__(self) -> "CandidateSampler":
        return self

    def __exit__(self, *error) -> None:
        self.contexts.close()

    def load(self) -> None:
        if self.model is not None:
            return
        self.model = inference.load_model(self.args, {ADAPTER: self.prepared.adapter})
        self.run.note_environment(base_model.describe_model(self.model))
        self.contexts.enter_context(inference.use_adapter(self.model, self.prepared.adapter, ADAPTER))
        self.method = method.choose_method(
            self.model, self.prepared.generation_config, self.args.generation_method, self.prepared.requests
        )
        self.run.note_environment({"generation_method": self.method})
        self.contexts.enter_context(fast_cpu_inference(self.model))
        self.scorer = CandidateScorer(self.args, self.prepared.prompts)

    def measure_limit(self) -> BatchLimit:
        self.load()
        params = SamplingParams(self.prepared.generation_config, self.args.seed, self.args.candidates)
        return batch_limit.measure_batch_limit(self.run, self.model, self.prepared.requests, params)

    def sample(self, limit: BatchLimit, batch: PromptBatch, params: SamplingParams) -> list[list[Attempt]]:
        """See `sample_pairs`."""
        self.load()
        replies = method.generate(self.method, self.model, batch, params, limit, lambda finished: None)
        texts = [[decode_reply(tokens, self.prepared.tokenizer) for tokens in each.samples] for each in replies]
        return self.scorer.score(batch, texts)
