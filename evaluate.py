"""Evaluates an adapter, and a baseline beside it, on the same prompts.

    python evaluate.py --json_file args/evaluate_arg.json
    python evaluate.py --json_file args/evaluate_arg.json --from_predictions RUN_FOLDER
    python evaluate.py --compare RUN_FOLDER NAME=RUN_FOLDER,RUN_FOLDER,… …

Generates a reply to every dialogue of the data set, classifies its emotion and whether it is gibberish, and leaves in
output_dir: report.html, summary.md and pictures; metrics.json, predictions.jsonl, args.json and environment.json.

The second command classifies and reports replies that an earlier run has generated: only the classifiers are loaded.
The third one compares the adapters of finished runs on the same prompts. NAME=RUN_FOLDER,RUN_FOLDER,… are runs of one
recipe that was trained several times with different random seeds.
"""

import signal
import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, commits, preflight
from response_generator.config.schema import EvaluateArguments
from response_generator.data.datasets import count_skipped
from response_generator.data.reading import read_datasets
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder


def main() -> None:
    options = read_options()
    if options.compare:
        compare(options.compare, options.output_dir or "comparison")
        return
    args = command_line.read_arguments(EvaluateArguments, options)
    run = preflight.check_environment(args, options.from_predictions)
    if options.from_predictions:
        report_again(args, run, options)
    elif run.is_finished:
        show_finished(run)
    else:
        evaluate(args, run, options.dry_run)


def read_options() -> Namespace:
    path = command_line.parse_path
    parser, one_of = command_line.build_parser(EvaluateArguments, __doc__)
    one_of.add_argument("--compare", nargs="+", metavar="RUN_FOLDER", help="finished runs to compare, see above")
    parser.add_argument("--from_predictions", type=path, metavar="FILE", help="a predictions.jsonl, or its run folder")
    parser.add_argument("--output_dir", type=path, metavar="FOLDER", help="where --compare writes (comparison)")
    options = parser.parse_args()
    if options.output_dir and not options.compare:
        parser.error("--output_dir goes with --compare; with an args file: --set output_dir=FOLDER")
    if options.compare and (options.set or options.from_predictions or options.dry_run):
        parser.error("--compare takes finished runs as they are: no --set, --from_predictions or --dry_run")
    return options


def evaluate(args: EvaluateArguments, run: RunFolder, dry_run: bool) -> None:
    held_out = args.preferences.dataset if args.preferences else None
    (dialogues, skipped), (pairs, skipped_pairs) = read_datasets(args.dataset, held_out)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import data_preview, prompt_preview
    from response_generator.evaluation import pipeline, predictions_file
    from response_generator.runs import batch_rows
    from response_generator.runs.tracking import Tracker

    prepared = pipeline.prepare_evaluation(args, dialogues, pairs)
    prompt_preview.show_evaluation(args, prepared)
    data_preview.show_skipped({"dataset": skipped, "preferences.dataset": skipped_pairs})
    data_preview.show_limits({"dataset": args.dataset, "preferences.dataset": held_out})
    if dry_run:
        return
    from response_generator.evaluation.results import score_and_report  # imports matplotlib, which only results need

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    if pipeline.generate_missing(args, run, prepared):
        run.note_commits(commits.find_adapter_and_dataset_commits(args))
    batch_rows.shutdown_distributed()
    if not distributed.is_main_process():
        return
    counts = count_skipped("dataset", args.dataset, skipped)
    if prepared.held_out:
        counts |= count_skipped("preferences.dataset", args.preferences.dataset, skipped_pairs)
        counts |= prepared.held_out.dropped_metrics("preferences.dataset")
    rows = predictions_file.read_predictions(run.path, predictions_file.GENERATED_FIELDS)
    run.note_commits(commits.find_classifier_commits(args.scoring))
    score_and_report(args, run, rows, run.arguments, counts, tracker)


def show_finished(run: RunFolder) -> None:
    print(run.describe_finished("report.html, summary.md and metrics.json"))
    print(f"open {run.path / 'report.html'}")


def report_again(args: EvaluateArguments, run: RunFolder, options: Namespace) -> None:
    import_backend("transformers")  # enough for the classifiers, whichever backend generated the replies
    from response_generator.evaluation import predictions_file
    from response_generator.evaluation.results import score_and_report
    from response_generator.evaluation.saved_predictions import SavedPredictions
    from response_generator.runs.tracking import Tracker
    from response_generator.scoring import classifiers

    source = SavedPredictions(options.from_predictions)
    classifiers.check_classifiers(args.scoring)
    rows = source.rows()
    source.check_preferences(args)
    print(f"{source.place}: {len(rows)} replies of {', '.join(predictions_file.group_by_model(rows))}")
    if options.dry_run or not distributed.is_main_process():
        return
    settings = source.settings(run.arguments)
    if run.holds(source.place):
        run.note_weights()
    else:
        run.start()
        source.copy_artifacts(run.path)
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    run.note_commits(commits.find_classifier_commits(args.scoring))
    score_and_report(args, run, rows, settings, source.left_out(), tracker)


def compare(names: list[str], output_dir: str | Path) -> None:
    from response_generator.evaluation import comparison, examples, finished_runs, report, terminal_table
    from response_generator.runs.short_names import build_page_title

    if not distributed.is_main_process():
        return
    models = [finished_runs.parse_model(name) for name in names]
    runs = finished_runs.read_runs(models)
    run = RunFolder(Path(output_dir), {"compare": [model.describe() for model in models]})
    finished_runs.check_output_folder(run)
    found = comparison.compare_models(runs.rows, [], runs.bootstrap_resamples, runs.seed)
    run.start()
    title = build_page_title("Evaluation", run.path, found.models)
    report.write_report(found, title, runs.settings(), run.flatten_environment(), run.path)
    run.write_json("metrics.json", found.flatten())
    terminal_table.show_table(found, {})
    examples.show_examples(found)
    print(f"done: open {run.path / 'report.html'}; metrics and pictures are beside it")


def run() -> int:
    """The command `evaluate-dpo` of an installation with pip."""
    return command_line.run_main(main)


if __name__ == "__main__":
    sys.exit(run())
