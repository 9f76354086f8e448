"""Exports a finished run as one 16-bit model, when it was not exported yet or the export failed.

python -m response_generator.export RUN_FOLDER [--set export.KEY=VALUE]
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from response_generator.cli import command_line
from response_generator.config import strict_json
from response_generator.config.sources import find_adapter_source_errors, find_model_source_errors
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError
from response_generator.modeling import merge
from response_generator.runs import library_output
from response_generator.runs.run_folder import RunFolder


def read_run(folder: Path, assignments: list[str]) -> DPOArguments:
    """Reads the args of a finished run, and applies `--set` assignments to its section `export`.

    Raises:
        InputError: when the run cannot be exported.
    """
    if not (folder / "args.json").is_file():
        raise InputError(f"RUN_FOLDER: {folder}: holds no args.json; name the output_dir of a finished training run")
    values = strict_json.read_object(folder / "args.json")
    for assignment in assignments:
        if not assignment.startswith("export."):
            raise InputError(f"--set {assignment}: allowed: keys of the section export")
        command_line.apply_override(values, assignment)
    arguments = validate_arguments(DPOArguments, values, str(folder / "args.json"))
    if arguments.export is None:
        raise InputError("export: is null in args.json; name a folder: --set export.path=FOLDER")
    arguments = arguments.model_copy(update={"output_dir": str(folder)})  # the folder may have been moved
    errors = find_adapter_source_errors("RUN_FOLDER", str((folder / "adapter").absolute()))
    errors += merge.find_export_errors(arguments) + find_base_errors(arguments)
    if errors:
        raise InputError(*errors)
    return arguments


def find_base_errors(arguments: DPOArguments) -> list[str]:
    """Checks that the base model to merge into is there, and that `base_model` is still the one of the training."""
    key, name = merge.get_16bit_base(arguments)
    run = RunFolder.of(arguments, {key: name} if key == "base_model" else {})
    way_out = "name a copy of it: --set export.base_model=FOLDER"
    return find_model_source_errors(key, name) or run.find_weight_errors(way_out)


def main() -> None:
    parser = ArgumentParser(
        "python -m response_generator.export", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run_folder",
        type=command_line.parse_path,
        metavar="RUN_FOLDER",
        help="output_dir of a finished training run",
    )
    parser.add_argument("--set", action="append", default=[], metavar="export.KEY=VALUE", help="may be repeated")
    command_line.add_verbose(parser)
    options = parser.parse_args()
    library_output.set_verbose(options.verbose)
    arguments = read_run(options.run_folder, options.set)
    merge.merge_in_subprocess(arguments, options.run_folder / "adapter", options.set)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
