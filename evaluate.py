"""Evaluates an adapter, and a baseline beside it, on the same prompts.

    python evaluate.py --json_file args/evaluate_arg.json
    python evaluate.py --json_file args/evaluate_arg.json --from_predictions RUN_FOLDER
    python evaluate.py --compare RUN_FOLDER RUN_FOLDER …

Draws replies to every dialogue of the data set, asks the classifiers what each expresses, and leaves in output_dir:
report.html, summary.md and pictures; metrics.json, predictions.jsonl, args.json and environment.json.

The second command judges and reports replies that are there already: no model is loaded but the classifiers. The third
one compares the adapters of finished runs on the same prompts.
"""

import signal
import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while the rest is imported ends without a traceback

from response_generator.cli import command_line, commits, preflight
from response_generator.config.schema import EvaluateArguments
from response_generator.data.datasets import read_dialogues, read_pairs, skipped_metrics
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder


def main() -> None:
    options = read_options()
    if options.compare:
        folders = [str(folder.absolute()) for folder in options.compare]
        compare(options.compare, RunFolder.at(options.output_dir or "comparison", {"compare": folders}))
        return
    args = command_line.arguments_of(EvaluateArguments, options)
    run = preflight.check(args, options.from_predictions)
    if options.from_predictions:
        report_again(args, run, options)
    elif run.is_finished:
        print(f"{run.path} is finished: see report.html, summary.md and metrics.json there")
    else:
        evaluate(args, run, options.dry_run)


def read_options() -> Namespace:
    path = command_line.path_argument
    parser, one_of = command_line.parser_for(EvaluateArguments, __doc__)
    one_of.add_argument("--compare", nargs="+", type=path, metavar="RUN_FOLDER", help="finished runs to compare")
    parser.add_argument("--from_predictions", type=path, metavar="FILE", help="a predictions.jsonl, or its run folder")
    parser.add_argument(
        "--output_dir", type=path, metavar="FOLDER", help="where --compare writes (default: comparison)"
    )
    options = parser.parse_args()
    if options.output_dir and not options.compare:
        parser.error("--output_dir goes with --compare; with an args file: --set output_dir=FOLDER")
    if options.compare and (options.set or options.from_predictions or options.dry_run):
        parser.error("--compare takes finished runs as they are: no --set, --from_predictions or --dry_run")
    return options


def evaluate(args: EvaluateArguments, run: RunFolder, dry_run: bool) -> None:
    dialogues, skipped = read_dialogues(args.dataset)
    pairs, skipped_pairs = read_pairs(args.preferences.dataset) if args.preferences else ([], {})

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import preview
    from response_generator.data.chat_template import ChatFormatter
    from response_generator.data.tokenization import tokenize_pairs
    from response_generator.evaluation import models, pair_logprobs, predictions, predictions_file
    from response_generator.generation import sampling
    from response_generator.modeling import loading
    from response_generator.modeling.tokenizer import load_tokenizer
    from response_generator.runs import resumable
    from response_generator.runs.tracking import Tracker
    from response_generator.scoring import classifiers

    classifiers.check_classifiers(args.scoring)
    sides = models.find(args)
    tokenizer = load_tokenizer(args, sides[models.ADAPTER])
    renderer = ChatFormatter.of(tokenizer, args.chat_template)
    config = sampling.generation_config(args.generation, tokenizer)
    context = models.context_length(args)
    requests = [sampling.GenerationRequest.of(dialogue, renderer) for dialogue in dialogues]
    sampling.check_context(requests, config.max_new_tokens, context)
    held_out = tokenize_pairs(pairs, renderer, context) if pairs else None
    preview.show_requests(requests, renderer, config, len(sides) * args.samples_per_prompt)
    preview.show_other_template(renderer)
    if held_out:
        preview.show_counts("preferences", held_out, renderer)
    preview.show_skipped({"dataset": skipped, "preferences.dataset": skipped_pairs})
    preview.show_limits({"dataset": args.dataset, "preferences.dataset": args.preferences and args.preferences.dataset})
    if dry_run:
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    batches = sampling.batches(requests, args.batch_size, lambda request: request.length)
    replies = predictions.outstanding(run.path, list(sides), batches, args.samples_per_prompt)
    rewarded = pair_logprobs.outstanding(run.path, list(sides), held_out, args.batch_size) if held_out else {}
    how = sampling.SamplingParams(config, args.seed, args.samples_per_prompt)
    if any(replies.values()) or any(rewarded.values()):
        speaker = models.load(args, sides)
        run.note_environment(loading.describe_model(speaker))
        run.note_commits(commits.of_adapters_and_data(args))
        for name, adapter in sides.items():
            with models.use_adapter(speaker, adapter, name):
                predictions.generate(run.path, name, speaker, tokenizer, replies[name], how)
                pair_logprobs.measure(run.path, name, speaker, rewarded.get(name, []), tokenizer.pad_token_id)
        del speaker  # the card is the judges' now
    resumable.shutdown_distributed()
    counts = skipped_metrics("dataset", args.dataset, skipped)
    if held_out:
        counts |= skipped_metrics("preferences.dataset", args.preferences.dataset, skipped_pairs)
        counts |= held_out.dropped_metrics("preferences.dataset")
    if distributed.is_main_process():
        generated = predictions_file.read(run.path, predictions_file.GENERATED_FIELDS)
        judge_and_report(args, run, generated, run.arguments, counts, tracker)


def report_again(args: EvaluateArguments, run: RunFolder, options: Namespace) -> None:
    import_backend("transformers")  # which loads the classifiers, whatever has made the replies
    from response_generator.evaluation import predictions_file
    from response_generator.evaluation.saved_predictions import SavedPredictions
    from response_generator.runs.tracking import Tracker
    from response_generator.scoring import classifiers

    source = SavedPredictions(options.from_predictions)
    classifiers.check_classifiers(args.scoring)
    replies = source.rows()
    source.check_preferences(args)
    print(f"{source.place}: {len(replies)} replies of {', '.join(predictions_file.by_model(replies))}")
    if options.dry_run or not distributed.is_main_process():
        return
    settings = source.settings(run.arguments)
    if not run.holds(source.place):
        run.start()
        source.copy_artifacts(run.path)
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    judge_and_report(args, run, replies, settings, source.left_out(), tracker)


def judge_and_report(
    args: EvaluateArguments, run: RunFolder, replies: list[dict], settings: dict, counts: dict[str, int], tracker
) -> None:
    from response_generator.evaluation import comparison, pair_logprobs, predictions, predictions_file, report, table
    from response_generator.runs import json_lines, run_folder
    from response_generator.scoring import classifiers

    judged = predictions.score_predictions(replies, args.scoring)
    run.note_commits(commits.of_classifiers(args))
    json_lines.write_jsonl(run.path / predictions_file.FILE, judged)
    found = comparison.compare_models(
        predictions_file.by_model(judged),
        classifiers.label_names(args.scoring.gibberish_model),
        args.bootstrap_resamples,
        args.seed,
        pair_logprobs.margins(run.path, args.preferences),
    )
    speeds = predictions.speeds(run.path)
    pictures = report.write(found, run_folder.flat(settings), run.path)
    figures = found.flat() | {f"{model}/{key}": value for model, of in speeds.items() for key, value in of.items()}
    figures |= counts
    run.write_json("metrics.json", figures)
    table.show(found, speeds)
    tracker.log_table("predictions", *predictions_file.as_table(judged))
    for picture in pictures:
        tracker.log_image(picture.stem, picture)
    tracker.summarize(figures)
    tracker.finish()
    print(f"done: open {run.path / 'report.html'}; figures, replies and pictures are beside it")


def compare(folders: list[Path], run: RunFolder) -> None:
    from response_generator.evaluation import comparison, finished_runs, report, table

    if not distributed.is_main_process():
        return
    runs = finished_runs.read(folders)
    finished_runs.check_place(run)
    found = comparison.compare_models(runs.rows, [], runs.bootstrap_resamples, runs.seed)
    run.start()
    report.write(found, runs.settings(), run.path)
    run.write_json("metrics.json", found.flat())
    table.show(found, {})
    print(f"done: open {run.path / 'report.html'}; figures and pictures are beside it")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
