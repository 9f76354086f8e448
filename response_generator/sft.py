"""Trains the SFT adapter that DPO starts from.

    python -m response_generator.sft --json_file args/sft_arg.json

Reads dialogues, trains a LoRA on a 4-bit base to write the assistant's replies, each with its emotion in the prompt,
and leaves in output_dir: adapter/ (what fine_tune_dpo.py reads), report.html, metrics.json, log.jsonl, training.png,
args.json, environment.json.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.training_schema import SFTArguments
from response_generator.data.reading import read_datasets
from response_generator.modeling.backend import import_backend
from response_generator.runs import upload


def main() -> None:
    options = command_line.build_parser(SFTArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(SFTArguments, options)
    run = preflight.check_environment(args, options.args_files)
    if run.is_finished:
        lines = upload.describe_missing_upload(run.path, args.push_to_hub, "model")
        print(run.describe_finished("report.html and metrics.json", "adapter"), *lines, sep="\n")
        return
    rows = read_datasets(args.label_set, args.dataset, args.eval_dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.programs import sft_run

    sft_run.fine_tune(args, run, rows, options.dry_run)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
