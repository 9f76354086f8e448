"""Trains a classifier of emotions, or of other labels, on the turns of dialogues.

    python -m response_generator.classifier --json_file args/daily_dialog/emotion_classifier_arg.json

Leaves in output_dir: classifier/ (for scoring.emotion_model of the other programs), metrics.json (its accuracy on
held-out turns, per label), args.json, environment.json. The classifier that chooses preference pairs and the one that
evaluates should be two, of different build. Training takes minutes and cannot be resumed.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.training_schema import ClassifierArguments
from response_generator.data.reading import read_datasets
from response_generator.modeling.backend import import_backend
from response_generator.training.turns import count_labels, describe_counts, list_turns


def main() -> None:
    options = command_line.build_parser(ClassifierArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(ClassifierArguments, options)
    run = preflight.check_environment(args, options.args_files)
    if run.is_finished:
        print(run.describe_finished("metrics.json", "classifier"))
        return
    rows = read_datasets(args.label_set, args.dataset, args.extra_dataset, args.eval_dataset)

    train_turns = list_turns([*rows[0][0], *rows[1][0]])
    print(f"turns of each label: {describe_counts(count_labels(train_turns, args.label_set))}")

    import_backend("transformers")
    from response_generator.programs import classifier_run

    classifier_run.train(args, run, rows, options.dry_run)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
