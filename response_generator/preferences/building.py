"""Builds preference pairs: samples candidates with the model, scores them with the classifiers, and keeps pairs."""

import hashlib
import json
from contextlib import ExitStack
from functools import partial

from peft import PeftModel

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.constants import ADAPTER
from response_generator.data.datasets import Dialogue
from response_generator.errors import InputError
from response_generator.generation import batch_limit, method
from response_generator.generation.generation_requests import BatchLimit, SamplingParams, decode_reply
from response_generator.modeling import base_model, inference
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.preferences.attempts import Attempt, LabelPair, find_early_failure, score_attempt
from response_generator.preferences.preparation import PreparedBuilding
from response_generator.preferences.sampling_rounds import Outcome, PromptBatch, sample_pairs
from response_generator.runs.run_folder import RunFolder
from response_generator.scoring import classifiers
from response_generator.scoring.reward import read_penalized_words

PROMPTS_DIGEST = "prompts_sha256"  # in environment.json


def build_pairs(args: PreferenceDataArguments, run: RunFolder, prepared: PreparedBuilding) -> list[Outcome]:
    """The outcome of every prompt. What an earlier start of the same run has sampled is not sampled again.

    Raises:
        InputError: when an earlier start of the run had other prompts.
    """
    check_prompts(run, prepared)
    limit = batch_limit.read_batch_limit(run, args.batch_size)
    with CandidateSampler(args, run, prepared) as sampler:
        limit = limit or sampler.measure_limit()
        return sample_pairs(args, run.path, prepared, limit, partial(sampler.sample, limit))


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
        self.penalized = read_penalized_words(args.reward, args.label_set)
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
        self.emotions = classifiers.load_emotion_classifier(self.args.scoring)
        self.gibberish = classifiers.load_gibberish_classifier(self.args.scoring)

    def measure_limit(self) -> BatchLimit:
        self.load()
        params = SamplingParams(self.prepared.generation_config, self.args.seed, self.args.candidates)
        return batch_limit.measure_batch_limit(self.run, self.model, self.prepared.requests, params)

    def sample(self, limit: BatchLimit, batch: PromptBatch, params: SamplingParams) -> list[list[Attempt]]:
        """See `sample_pairs`."""
        self.load()
        replies = method.generate(self.method, self.model, batch, params, limit, lambda finished: None)
        texts = [[decode_reply(tokens, self.prepared.tokenizer) for tokens in each.samples] for each in replies]
        size = self.args.candidates
        attempts = [[row[start : start + size] for start in range(0, len(row), size)] for row in texts]
        labels = self.classify(batch, attempts)
        return [
            self.score_attempts(request.dialogue, tried, labels) for request, tried in zip(batch, attempts, strict=True)
        ]

    def classify(self, batch: PromptBatch, attempts: list[list[list[str]]]) -> dict[str, LabelPair]:
        """The labels, by text, of all candidates whose attempt may give a pair, and of the gold replies if needed."""
        tried = [texts for row in attempts for texts in row if not find_early_failure(texts, self.args)]
        found = [text for texts in tried for text in texts if text]
        if self.args.gold_as_chosen:
            found += [request.dialogue.gold_response for request in batch]
        distinct = list(dict.fromkeys(found))
        found = (classifiers.classify(each, distinct) for each in (self.emotions, self.gibberish))
        return dict(zip(distinct, zip(*found, strict=True), strict=True))

    def score_attempts(
        self, prompt: Dialogue, attempts: list[list[str]], labels: dict[str, LabelPair]
    ) -> list[Attempt]:
        """The attempts at a prompt up to the first that gave a pair."""
        scored = []
        for texts in attempts:
            failure = find_early_failure(texts, self.args)
            scored.append(
                Attempt(texts, [], None, failure)
                if failure
                else score_attempt(prompt, texts, labels, self.args, self.penalized)
            )
            if not scored[-1].failure:
                break
        return scored
