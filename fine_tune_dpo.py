"""Aligns an adapter with DPO.

    python fine_tune_dpo.py --json_file args/dpo_arg.json

Reads preference pairs, trains a copy of the SFT adapter against a frozen one on the same 4-bit base, and leaves in
output_dir: adapter/ (what evaluate.py reads), report.html, metrics.json, log.jsonl, training.png, args.json,
environment.json.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, preflight
from response_generator.config.training_schema import DPOArguments
from response_generator.data.reading import read_datasets
from response_generator.modeling import merge
from response_generator.modeling.backend import import_backend
from response_generator.runs import upload
from response_generator.runs.run_folder import RunFolder


def main() -> None:
    options = command_line.build_parser(DPOArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(DPOArguments, options)
    run = preflight.check_environment(args, options.args_files)
    if run.is_finished:
        show_finished(args, run)
        return
    rows = read_datasets(args.label_set, args.dataset, args.eval_dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.programs import dpo_run

    dpo_run.align(args, run, rows, options.dry_run)


def show_finished(args: DPOArguments, run: RunFolder) -> None:
    lines = upload.describe_missing_upload(run.path, args.push_to_hub, "model")
    print(run.describe_finished("report.html and metrics.json", "adapter"), *lines, sep="\n")
    if args.export and not merge.is_exported(args):
        print(f"it is not exported yet: {merge.describe_export_command(run.path)}")


def run() -> int:
    """The command `fine-tune-dpo` of an installation with pip."""
    return command_line.run_main(main)


if __name__ == "__main__":
    sys.exit(run())
