"""A run of the evaluation, from its dialogues to the report, and a report of replies that an earlier run generated."""

from pathlib import Path

from response_generator.cli import commits, data_preview, prompt_preview
from response_generator.config.schema import EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE, PREDICTIONS_FILE
from response_generator.data.datasets import Dialogue, Pair, Skipped
from response_generator.data.reading import count_skipped
from response_generator.evaluation import pair_logprobs, pipeline, predictions, predictions_file, scorers, with_server
from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.reporting import examples, report, terminal_table
from response_generator.evaluation.saved_predictions import SavedPredictions
from response_generator.generation.server.facts import describe_noted
from response_generator.runs import batch_rows, distributed, json_lines
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.runs.short_names import build_page_title, name_adapters
from response_generator.runs.tracking import Tracker
from response_generator.scoring import classifiers
from response_generator.scoring.quality import ClassifierQuality, keep_quality, read_quality

Rows = tuple[tuple[list[Dialogue], Skipped], tuple[list[Pair], Skipped]]


def evaluate(args: EvaluateArguments, run: RunFolder, rows: Rows, dry_run: bool, more_follows: bool = False) -> None:
    """Generates replies with the adapter and the baseline to the same prompts, classifies and compares them.

    Args:
        rows: of `dataset` and of `heldout_pairs.dataset`, as `read_datasets` returns them.
        dry_run: show the data, and write nothing.
        more_follows: the processes stay connected, because they go on with another program.
    """
    (dialogues, skipped), (pairs, skipped_pairs) = rows
    pair_dataset = args.heldout_pairs.dataset if args.heldout_pairs else None
    prepared = pipeline.prepare_evaluation(args, dialogues, pairs)
    data_preview.show_models(args)
    prompt_preview.show_evaluation(args, prepared)
    data_preview.show_skipped({"dataset": skipped, "heldout_pairs.dataset": skipped_pairs})
    data_preview.show_limits({"dataset": args.dataset, "heldout_pairs.dataset": pair_dataset})
    quality = read_quality_of(args)
    facts = None
    if args.server and (dry_run or not run.has_results):  # later it may have ended, with all replies in the run folder
        facts = with_server.check_server(args, prepared, generate=not dry_run)
    if dry_run:
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    if args.server:
        has_written = with_server.write_missing(args, run, prepared, facts)
    else:
        has_written = pipeline.write_missing(args, run, prepared)
    if has_written:
        run.note_commits(commits.find_adapter_and_dataset_commits(args))
        if args.best_of:
            run.note_commits(commits.find_classifier_commits(args.best_of.scoring, "best_of.scoring."))
    if not more_follows:
        batch_rows.shutdown_distributed()
    if not distributed.is_main_process():
        return
    counts = count_skipped("dataset", args.dataset, skipped)
    if prepared.held_out:
        counts |= count_skipped("heldout_pairs.dataset", pair_dataset, skipped_pairs)
        counts |= prepared.held_out.dropped_metrics("heldout_pairs.dataset")
    fields = predictions_file.list_generated_fields(args.label_set)
    generated = predictions_file.read_predictions(run.path, fields, args.label_set)
    score_and_report(args, run, generated, run.arguments, counts, tracker, quality)


def score_again(args: EvaluateArguments, run: RunFolder, place: Path, dry_run: bool) -> None:
    """Classifies and compares the replies of an earlier run.

    Args:
        place: the earlier run's predictions.jsonl, or its folder.
        dry_run: check the replies, and write nothing.
    """
    source = SavedPredictions(place)
    generated = source.rows(args.label_set)
    scorers.check_scorers(args.scoring, args.label_set, ((row["index"], row["history"]) for row in generated))
    source.check_preferences(args)
    source.check_classifiers(args)
    quality = read_quality_of(args)
    print(f"{place}: {len(generated)} replies of {', '.join({row['model']: 1 for row in generated})}")
    if dry_run or not distributed.is_main_process():
        return
    settings = source.settings(run.arguments)
    if run.holds(place):
        run.note_weights()
    else:
        run.start()
        source.copy_artifacts(run.path)
        run.note_environment(source.describe_generation())
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    score_and_report(args, run, generated, settings, source.left_out(), tracker, quality)


def read_quality_of(args: EvaluateArguments) -> ClassifierQuality | None:
    """How good the emotion classifier is; None without one, or where nothing is known of it."""
    return None if args.scoring.emotion_model is None else read_quality(args.scoring.emotion_model)


def score_and_report(
    args: EvaluateArguments,
    run: RunFolder,
    generated: list[predictions_file.Prediction],
    settings: dict,
    counts: dict[str, int],
    tracker: Tracker,
    quality: ClassifierQuality | None,
) -> None:
    """Classifies the replies, compares the models, and writes predictions.jsonl, metrics.json and the report.

    Args:
        generated: the replies of all models.
        settings: shown in the report.
        counts: skipped rows and dropped pairs, added to metrics.json.
        quality: of the emotion classifier.
    """
    run.note_commits(commits.find_classifier_commits(args.scoring))
    scored = predictions.score_predictions(generated, args.scoring, args.label_set, args.seed)
    json_lines.write_jsonl(run.path / PREDICTIONS_FILE, scored)
    keep_quality(quality, run.path)
    comparison = compare_models(
        predictions_file.group_by_model(scored, args.label_set),
        args.label_set,
        classifiers.read_gibberish_labels(args.scoring),
        args.bootstrap_resamples,
        args.seed,
        pair_logprobs.read_reward_margins(run.path, args.heldout_pairs),
    )
    throughput = predictions.read_throughput(run.path)
    adapters = {ADAPTER: settings.get("adapter"), BASELINE: settings.get("baseline_adapter")}
    contents = name_adapters({model: adapter for model, adapter in adapters.items() if adapter})
    title = build_page_title("Evaluation", run.path, contents)
    environment, notes = run.flatten_environment(), describe_noted(run.read_environment())
    pictures = report.write_report(
        comparison, title, flatten(settings), environment, run.path, quality, throughput, notes
    )
    metrics = comparison.flatten() | counts
    metrics |= {f"{model}/{key}": value for model, speed in throughput.items() for key, value in speed.items()}
    tracker.log_table("predictions", *predictions_file.to_tracker_table(scored))
    for picture in pictures:
        tracker.log_image(picture.stem, picture)
    tracker.summarize(metrics)
    tracker.finish()
    run.write_json("metrics.json", metrics)
    terminal_table.show_table(comparison, throughput)
    examples.show_examples(comparison)
    print(f"done: open {run.path / 'report.html'}; metrics, replies and pictures are beside it")
