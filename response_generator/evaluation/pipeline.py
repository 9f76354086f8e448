"""The steps of an evaluation up to the replies: check and tokenize everything, find what is left to do, generate and
choose."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from transformers import GenerationConfig, PreTrainedTokenizerBase

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE, CANDIDATES_FILE, PREDICTIONS_FILE
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Pair
from response_generator.data.pair_tokenization import TokenizedPairs, tokenize_pairs
from response_generator.evaluation import best_of, pair_logprobs, predictions
from response_generator.evaluation.scorers import check_scorers
from response_generator.generation import batch_limit, method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    Replies,
    SamplingParams,
    build_generation_config,
    check_context,
    split_requests,
)
from response_generator.generation.server.completions import check_settings_of_server
from response_generator.modeling import base_model, inference, shared_base
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.run_folder import RunFolder
from response_generator.scoring.best_of import check_choosing_classifiers


@dataclass(frozen=True)
class PreparedEvaluation:
    """Everything that is known before the base model is loaded. `held_out` is None without preference pairs."""

    adapters: inference.Adapters
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    generation_config: GenerationConfig
    requests: list[GenerationRequest]
    held_out: TokenizedPairs | None


@dataclass(frozen=True)
class RemainingWork:
    """Batches that are not in the run folder yet, by model. `candidates` and `choices` are by the name of the row with
    the best of the candidates."""

    replies: dict[str, list[predictions.RequestBatch]]
    candidates: dict[str, list[predictions.RequestBatch]]
    choices: dict[str, list[predictions.RequestBatch]]
    pairs: dict[str, list[pair_logprobs.PairBatch]]

    @property
    def needs_model(self) -> bool:
        return any([*self.replies.values(), *self.candidates.values(), *self.pairs.values()])


def prepare_evaluation(args: EvaluateArguments, dialogues: list[Dialogue], pairs: list[Pair]) -> PreparedEvaluation:
    """Checks classifiers, adapters, tokenizer, template and sampling settings, and tokenizes the data.

    Raises:
        InputError: with what is wrong.
    """
    check_scorers(args.scoring, args.label_set, ((dialogue.index, dialogue.history) for dialogue in dialogues))
    if args.best_of:
        check_choosing_classifiers(args.best_of, args.label_set)
    adapters = resolve_adapters(args)
    tokenizer = load_tokenizer(args, adapters[ADAPTER])
    formatter = ChatFormatter.of(tokenizer, args.chat_template, args.label_set)
    config = build_generation_config(args.generation, tokenizer)
    if args.server:
        check_settings_of_server(config)
    context = inference.context_length(args)
    if args.dataset.target_emotions == "all":
        dialogues = [dialogue.ask_for(label) for dialogue in dialogues for label in args.labels]
    requests = [GenerationRequest.of(dialogue, formatter) for dialogue in dialogues]
    check_context(requests, config.max_new_tokens, context)
    held_out = tokenize_pairs(pairs, formatter, context) if pairs else None
    return PreparedEvaluation(adapters, tokenizer, formatter, config, requests, held_out)


def resolve_adapters(args: EvaluateArguments) -> inference.Adapters:
    """The adapter of each evaluated model, baseline first. Both models get the same prompts, tokenized by the evaluated
    adapter's tokenizer.

    Raises:
        InputError: when an adapter does not fit the base, or two adapters cannot share one base.
    """
    names = {"baseline_adapter": args.baseline_adapter, "adapter": args.adapter}
    adapters = shared_base.find_adapters(args, {key: name for key, name in names.items() if name is not None})
    if len(adapters) > 1:
        shared_base.load_shared_tokenizer(args, adapters, "adapter")  # checks the baseline's embeddings for its tokens
    models = {"baseline_adapter": BASELINE, "adapter": ADAPTER}
    return {models[key]: adapter for key, adapter in adapters.items()}


def write_missing(args: EvaluateArguments, run: RunFolder, prepared: PreparedEvaluation) -> bool:
    """Generates the replies, chooses the best ones, and computes the log-probabilities of pairs, that an earlier start
    has not left in the run folder. The model is loaded only if it is needed.

    Returns:
        Whether there were any.
    """
    limit = batch_limit.read_batch_limit(run, args.batch_size)
    remaining = find_remaining_batches(args, run, prepared, limit) if limit else None
    if remaining is None or remaining.needs_model:
        remaining = generate_missing(args, run, prepared, limit, remaining)
    elif not any(remaining.choices.values()):
        return False
    best_of.choose_replies(args, run.path, remaining.choices)  # when the model's memory is free again
    return True


def generate_missing(
    args: EvaluateArguments,
    run: RunFolder,
    prepared: PreparedEvaluation,
    limit: BatchLimit | None,
    remaining: RemainingWork | None,
) -> RemainingWork:
    """Does what needs the model, and returns what there was to do.

    Args:
        limit, remaining: None where the limit is to be measured first.
    """
    tokenizer = prepared.tokenizer
    params = SamplingParams(prepared.generation_config, args.seed, args.samples_per_prompt)
    # Their random numbers are others than those of the replies.
    candidate_params = replace(params, samples=best_of.count_candidates(args), first_sample=params.samples)
    model = inference.load_model(args, prepared.adapters)
    run.note_environment(base_model.describe_model(model))
    if not limit:
        with inference.use_adapter(model, prepared.adapters[ADAPTER], ADAPTER), fast_cpu_inference(model):
            limit = batch_limit.measure_batch_limit(run, model, prepared.requests, params)
        remaining = find_remaining_batches(args, run, prepared, limit)
    with inference.use_adapter(model, prepared.adapters[ADAPTER], ADAPTER):
        chosen = method.choose_method(model, params.config, args.generation_method, prepared.requests)
    run.note_environment({"generation_method": chosen})

    def write(name: str, file_name: str, batches: list[predictions.RequestBatch], params: SamplingParams) -> None:
        def generate(batch: predictions.RequestBatch, report: predictions.Report) -> list[Replies]:
            return method.generate(chosen, model, batch, params, limit, report)

        predictions.generate_predictions(run.path / file_name, name, generate, batches, params.samples, tokenizer)

    shares_prompts = chosen == method.CONTINUOUS_BATCHING
    compute_logps = pair_logprobs.compute_pair_logps if shares_prompts else pair_logprobs.compute_pair_logps_apart
    compute_logps = partial(compute_logps, model, tokenizer.pad_token_id)
    rows = {model: row for row, model in best_of.list_best_of(args, list(prepared.adapters)).items()}
    for name, adapter in prepared.adapters.items():
        with inference.use_adapter(model, adapter, name), fast_cpu_inference(model):
            write(name, PREDICTIONS_FILE, remaining.replies[name], params)
            if name in rows:
                write(rows[name], CANDIDATES_FILE, remaining.candidates[rows[name]], candidate_params)
            pair_logprobs.write_pair_logps(run.path, name, compute_logps, remaining.pairs.get(name, []))
    return remaining


def find_remaining_batches(
    args: EvaluateArguments, run: RunFolder, prepared: PreparedEvaluation, limit: BatchLimit
) -> RemainingWork:
    def split(samples: int) -> list[predictions.RequestBatch]:
        return split_requests(prepared.requests, prepared.generation_config, samples, limit)

    return find_remaining_work(args, run, prepared, split, pair_logprobs.PAIRS_PER_BATCH)


def find_remaining_work(
    args: EvaluateArguments,
    run: RunFolder,
    prepared: PreparedEvaluation,
    split: Callable[[int], list[predictions.RequestBatch]],
    pairs_per_batch: int,
) -> RemainingWork:
    """What an earlier start of the same run has not done yet; see `predictions.find_remaining_batches` for errors.

    Args:
        split: the requests in batches, given the samples of each.
    """

    def find(file_name: str, models: list[str], samples: int) -> dict[str, list[predictions.RequestBatch]]:
        file = run.path / file_name
        return predictions.find_remaining_batches(file, models, split(samples), samples, args.label_set)

    names = list(prepared.adapters)
    rows = list(best_of.list_best_of(args, names))
    replies = find(PREDICTIONS_FILE, [*names, *rows], args.samples_per_prompt)
    choices = {row: replies.pop(row) for row in rows}
    candidates = find(CANDIDATES_FILE, rows, best_of.count_candidates(args)) if rows else {}
    pairs = {}
    if prepared.held_out:
        pairs = pair_logprobs.find_remaining_batches(run.path, names, prepared.held_out, pairs_per_batch)
    return RemainingWork(replies, candidates, choices, pairs)
