"""Builds preference pairs from the replies of a model, or describes pairs that exist.

    python -m response_generator.preferences --json_file args/preference_arg.json
    python -m response_generator.preferences --describe DATASET [--set output_dir=FOLDER]

The first command samples several replies to every prompt, scores them with two classifiers, keeps the best and the
worst of them, and leaves in output_dir: preferences.jsonl (what fine_tune_dpo.py reads), README.md (its data card),
report.html and pictures; metrics.json, failed_prompts.jsonl, candidates/, args.json and environment.json.

The second command prints margins, scores, lengths, duplicates and target emotions of a file, a folder or a hub data
set, and leaves report.html, pictures and metrics.json. Its other keys are those of the section dataset, for example
--set dataset.split=train --set dataset.filters.min_margin=4.
"""

import signal
import sys
from argparse import Namespace
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, commits, preflight
from response_generator.config.preference_schema import DescriptionArguments, PreferenceDataArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import count_skipped, read_dialogues, read_pairs
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed, library_output, upload
from response_generator.runs.run_folder import RunFolder, flatten


def main() -> None:
    options = read_options()
    if options.describe:
        describe(read_description_arguments(options), options.dry_run)
        return
    args = command_line.read_arguments(PreferenceDataArguments, options)
    run = preflight.check_environment(args)
    if run.is_finished:
        lines = upload.describe_missing_upload(run.path, args.push_to_hub, "dataset")
        print(run.describe_finished("preferences.jsonl, report.html and metrics.json"), *lines, sep="\n")
    else:
        build(args, run, options.dry_run)


def read_options() -> Namespace:
    parser, one_of = command_line.build_parser(PreferenceDataArguments, __doc__)
    parser.prog = "python -m response_generator.preferences"
    one_of.add_argument("--describe", metavar="DATASET", help="pairs to describe: a file, a folder or a hub id")
    return parser.parse_args()


def build(args: PreferenceDataArguments, run: RunFolder, dry_run: bool) -> None:
    dialogues, skipped = read_dialogues(args.dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import data_preview, prompt_preview
    from response_generator.preferences.preparation import prepare_building
    from response_generator.preferences.windows import cut_windows
    from response_generator.runs import batch_rows
    from response_generator.runs.tracking import Tracker

    prompts, too_short = cut_windows(dialogues, args)
    prepared = prepare_building(args, prompts)
    prompt_preview.show_building(args, prepared)
    data_preview.show_skipped({"dataset": skipped + too_short})
    data_preview.show_limits({"dataset": args.dataset})
    if dry_run:
        return
    from response_generator.preferences.building import build_pairs
    from response_generator.preferences.results import write_results  # imports matplotlib, which only results need

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    outcomes = build_pairs(args, run, prepared)
    run.note_commits(commits.find_adapter_and_dataset_commits(args) | commits.find_classifier_commits(args.scoring))
    batch_rows.shutdown_distributed()
    if not distributed.is_main_process():
        return
    write_results(args, run, outcomes, count_skipped("dataset", args.dataset, skipped + too_short), tracker)
    if args.push_to_hub:
        upload.push_dataset(run.path, args.push_to_hub)


def read_description_arguments(options: Namespace) -> DescriptionArguments:
    library_output.set_verbose(options.verbose)
    values = {"dataset": {"path": options.describe}}
    for assignment in options.set:
        command_line.apply_override(values, assignment)
    return validate_arguments(DescriptionArguments, values, f"--describe {options.describe}")


def describe(args: DescriptionArguments, dry_run: bool) -> None:
    run = preflight.check_environment(args)
    pairs, skipped = read_pairs(args.dataset)

    from response_generator.cli import data_preview
    from response_generator.preferences import description, description_table, report
    from response_generator.preferences.filters import count_filtered
    from response_generator.preferences.labels import filter_dataset
    from response_generator.runs.short_names import build_page_title

    pairs, dropped = filter_dataset("dataset", pairs, args.dataset, args.scoring)
    metrics = count_skipped("dataset", args.dataset, skipped) | count_filtered("dataset", dropped)
    description.check_scores(pairs)
    metrics |= description.describe_pairs(pairs, args.required_markers)
    rows = description_table.build_rows(metrics)
    description_table.show_description(rows)
    data_preview.show_skipped({"dataset": skipped})
    data_preview.show_limits({"dataset": args.dataset})
    if dry_run or not distributed.is_main_process():
        return
    run.start()
    title = build_page_title("Preference pairs", run.path, [f"data {Path(args.dataset.path).name}"])
    report.write_report(title, pairs, rows, [], flatten(run.arguments), run.path)
    run.write_json("metrics.json", metrics)
    print(f"done: open {run.path / 'report.html'}; metrics and pictures are beside it")


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
