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

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.preference_schema import DescriptionArguments, PreferenceDataArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.modeling.backend import import_backend
from response_generator.runs import library_output, upload


def main() -> None:
    options = read_options()
    if options.describe:
        describe(options)
        return
    args = command_line.read_arguments(PreferenceDataArguments, options)
    run = preflight.check_environment(args, options.args_files)
    if run.is_finished:
        lines = upload.describe_missing_upload(run.path, args.push_to_hub, "dataset")
        print(run.describe_finished("preferences.jsonl, report.html and metrics.json"), *lines, sep="\n")
        return
    dialogues, skipped = read_dialogues(args.dataset, args.label_set)

    # unsloth has to be imported before transformers, trl and peft; with a server no base model is loaded
    import_backend("transformers" if args.server else args.backend)
    from response_generator.programs import pair_building_run

    pair_building_run.build(args, run, dialogues, skipped, options.dry_run)


def describe(options: Namespace) -> None:
    library_output.set_verbose(options.verbose)
    values = {"dataset": {"path": options.describe}}
    for assignment in options.set:
        command_line.apply_override(values, assignment)
    args = validate_arguments(DescriptionArguments, values, f"--describe {options.describe}")
    run = preflight.check_environment(args)
    pairs, skipped = read_pairs(args.dataset, args.label_set)

    from response_generator.programs import pair_description_run

    pair_description_run.describe(args, run, pairs, skipped, options.dry_run)


def read_options() -> Namespace:
    parser, one_of = command_line.build_parser(PreferenceDataArguments, __doc__)
    parser.prog = "python -m response_generator.preferences"
    one_of.add_argument("--describe", metavar="DATASET", help="pairs to describe: a file, a folder or a hub id")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
