"""Trains a classifier of emotions, or of other labels, on the turns of dialogues or on texts with labels.

    python -m response_generator.classifier --json_file args/daily_dialog/emotion_classifier_arg.json

Leaves in output_dir: classifier/ (for scoring.emotion_model of the other programs), metrics.json (how well it
recognizes each label of held-out texts), args.json, environment.json. The classifier that chooses preference pairs and
the one that evaluates should be two, of different build and of different data.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.training_schema import ClassifierArguments
from response_generator.data.classifier_data import read_classifier_data
from response_generator.data.labeled_texts import count_labels, describe_counts, list_examples
from response_generator.modeling.backend import import_backend


def main() -> None:
    options = command_line.build_parser(ClassifierArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(ClassifierArguments, options)
    run = preflight.check_environment(args, options.args_files)
    if run.is_finished:
        print(run.describe_finished("metrics.json", "classifier"))
        return
    data = read_classifier_data(args)
    counts = count_labels(list_examples(data.train_rows), args.label_set)
    print(f"texts of each label: {describe_counts(counts)}")

    import_backend("transformers")
    from response_generator.programs import classifier_run

    classifier_run.train(args, run, data, options.dry_run)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
