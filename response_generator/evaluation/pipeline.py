"""The steps of an evaluation: check and tokenize everything, generate, then classify, compare and report."""

from dataclasses import dataclass

from transformers import GenerationConfig, PreTrainedTokenizerBase

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import PREDICTIONS_FILE
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Pair
from response_generator.data.tokenization import TokenizedPairs, tokenize_pairs
from response_generator.evaluation import models, pair_logprobs, predictions, predictions_file, report, table
from response_generator.evaluation.comparison import compare_models
from response_generator.generation import sampling
from response_generator.modeling import loading
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs import json_lines, run_folder
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.tracking import Tracker
from response_generator.scoring import classifiers


@dataclass(frozen=True)
class PreparedEvaluation:
    """Everything that is known before the base model is loaded. `held_out` is None without preference pairs."""

    adapters: models.Adapters
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    generation_config: GenerationConfig
    requests: list[sampling.GenerationRequest]
    held_out: TokenizedPairs | None


@dataclass(frozen=True)
class RemainingWork:
    """Batches that are not in the run folder yet, by model."""

    replies: dict[str, list[predictions.Batch]]
    pairs: dict[str, list[pair_logprobs.Batch]]

    @property
    def is_empty(self) -> bool:
        return not any([*self.replies.values(), *self.pairs.values()])


def prepare(args: EvaluateArguments, dialogues: list[Dialogue], pairs: list[Pair]) -> PreparedEvaluation:
    """Checks classifiers, adapters, tokenizer, template and sampling settings, and tokenizes the data.

    Raises:
        InputError: with what is wrong.
    """
    classifiers.check_classifiers(args.scoring)
    adapters = models.resolve_adapters(args)
    tokenizer = load_tokenizer(args, adapters[models.ADAPTER])
    formatter = ChatFormatter.of(tokenizer, args.chat_template)
    config = sampling.build_generation_config(args.generation, tokenizer)
    context = models.context_length(args)
    requests = [sampling.GenerationRequest.of(dialogue, formatter) for dialogue in dialogues]
    sampling.check_context(requests, config.max_new_tokens, context)
    held_out = tokenize_pairs(pairs, formatter, context) if pairs else None
    return PreparedEvaluation(adapters, tokenizer, formatter, config, requests, held_out)


def find_remaining_work(args: EvaluateArguments, run: RunFolder, prepared: PreparedEvaluation) -> RemainingWork:
    """What an earlier start of the same run has not done yet; see `find_remaining_batches` for errors."""
    names = list(prepared.adapters)
    batches = sampling.make_batches(prepared.requests, args.batch_size, lambda request: request.length)
    replies = predictions.find_remaining_batches(run.path, names, batches, args.samples_per_prompt)
    pairs = {}
    if prepared.held_out:
        pairs = pair_logprobs.find_remaining_batches(run.path, names, prepared.held_out, args.batch_size)
    return RemainingWork(replies, pairs)


def generate(args: EvaluateArguments, run: RunFolder, prepared: PreparedEvaluation, remaining: RemainingWork) -> None:
    """Loads the model, generates the replies of every model and computes the log-probabilities of the pairs."""
    model = models.load_model(args, prepared.adapters)
    run.note_environment(loading.describe_model(model))
    tokenizer = prepared.tokenizer
    params = sampling.SamplingParams(prepared.generation_config, args.seed, args.samples_per_prompt)
    for name, adapter in prepared.adapters.items():
        with models.use_adapter(model, adapter, name):
            batches = remaining.replies[name]
            predictions.generate_predictions(run.path, name, model, tokenizer, batches, params)
            pairs = remaining.pairs.get(name, [])
            pair_logprobs.write_pair_logps(run.path, name, model, pairs, tokenizer.pad_token_id)


def score_and_report(
    args: EvaluateArguments,
    run: RunFolder,
    rows: list[predictions_file.Prediction],
    settings: dict,
    counts: dict[str, int],
    tracker: Tracker,
) -> None:
    """Classifies the replies, and writes predictions.jsonl, metrics.json and the report.

    Args:
        rows: the generated replies of all models.
        settings: shown in the report.
        counts: skipped rows and dropped pairs, added to metrics.json.
    """
    scored = predictions.score_predictions(rows, args.scoring)
    json_lines.write_jsonl(run.path / PREDICTIONS_FILE, scored)
    comparison = compare_models(
        predictions_file.group_by_model(scored),
        classifiers.read_label_names(args.scoring.gibberish_model),
        args.bootstrap_resamples,
        args.seed,
        pair_logprobs.read_reward_margins(run.path, args.preferences),
    )
    throughput = predictions.read_throughput(run.path)
    pictures = report.write_report(comparison, run_folder.flatten(settings), run.path)
    metrics = comparison.flatten() | counts
    metrics |= {f"{model}/{key}": value for model, speed in throughput.items() for key, value in speed.items()}
    run.write_json("metrics.json", metrics)
    table.show_table(comparison, throughput)
    tracker.log_table("predictions", *predictions_file.to_tracker_table(scored))
    for picture in pictures:
        tracker.log_image(picture.stem, picture)
    tracker.summarize(metrics)
    tracker.finish()
    print(f"done: open {run.path / 'report.html'}; metrics, replies and pictures are beside it")
