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

from response_generator.cli import command_line, preflight
from response_generator.config.schema import EvaluateArguments
from response_generator.data.reading import read_datasets
from response_generator.modeling.backend import import_backend


def main() -> None:
    options = read_options()
    if options.compare:
        from response_generator.programs import comparison_run

        comparison_run.compare(options.compare, options.output_dir or Path("comparison"))
        return
    args = command_line.read_arguments(EvaluateArguments, options)
    run = preflight.check_environment(args, options.args_files, options.from_predictions)
    if options.from_predictions:
        import_backend("transformers")  # enough for the classifiers, whichever backend generated the replies
        from response_generator.programs import evaluation_run

        evaluation_run.score_again(args, run, options.from_predictions, options.dry_run)
    elif run.is_finished:
        print(run.describe_finished("report.html, summary.md and metrics.json"))
        print(f"open {run.path / 'report.html'}")
    else:
        rows = read_datasets(args.label_set, args.dataset, args.heldout_pairs.dataset if args.heldout_pairs else None)

        # unsloth has to be imported before transformers, trl and peft; with a server no base model is loaded
        import_backend("transformers" if args.server else args.backend)
        from response_generator.programs import evaluation_run

        evaluation_run.evaluate(args, run, rows, options.dry_run)


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


def run() -> int:
    """The command `evaluate-dpo` of an installation with pip."""
    return command_line.run_main(main)


if __name__ == "__main__":
    sys.exit(run())
