"""Export: checks what it needs, and merges base model and adapter in a new process. Nothing here imports torch."""

import os
import shlex
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from response_generator.config import strict_json
from response_generator.config.sources import is_local
from response_generator.config.training_schema import DPOArguments
from response_generator.errors import InputError, RunError
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed
from response_generator.runs.atomic_folder import atomic_folder
from response_generator.runs.worker import call_in_new_process


def find_export_errors(arguments: DPOArguments) -> list[str]:
    """Checks the section `export` with local files only, before anything is loaded."""
    if arguments.export is None:
        return []
    return find_path_errors(arguments) + find_base_errors(arguments)


def find_path_errors(arguments: DPOArguments) -> list[str]:
    """Checks that `export.path` is a new or empty folder, can be written, and is not the run's folder or adapter."""
    if not distributed.is_main_process():
        return []
    path, run = Path(arguments.export.path), Path(arguments.output_dir)
    key = f"export.path: {path}"
    # Not Path.resolve, which raises RuntimeError for links that lead to themselves.
    real_path, real_run, real_adapter = (Path(os.path.realpath(folder)) for folder in (path, run, run / "adapter"))
    if real_run.is_relative_to(real_path) or real_path.is_relative_to(real_adapter):
        return [f"{key}: would mix with the files of the run; name another folder, for example {run / 'merged'}"]
    try:
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            return [f"{key}: already exists; name a new or an empty folder"]
        with TemporaryDirectory(dir=next(parent for parent in path.absolute().parents if os.path.lexists(parent))):
            return []
    except OSError as error:
        return [f"{key}: cannot be written ({error.strerror}); name another folder"]


def find_base_errors(arguments: DPOArguments) -> list[str]:
    """Checks that a local base model to merge into is not quantized."""
    key, name = get_16bit_base(arguments)
    if not is_local(name):
        return []
    try:
        config = strict_json.read_object(Path(name, "config.json"))
    except InputError:
        return []  # preflight reports damaged models
    return find_quantization_errors(key, name, config.get("quantization_config"))


def find_quantization_errors(key: str, name: str, quantization: object) -> list[str]:
    if not quantization:
        return []
    return [f"{key}: {name}: is pre-quantized; name its 16-bit original in export.base_model"]


def get_16bit_base(arguments: DPOArguments) -> tuple[str, str]:
    """Returns the key that names the base model to merge into, and its value."""
    if arguments.export.base_model is not None:
        return "export.base_model", arguments.export.base_model
    return "base_model", arguments.base_model


def is_exported(arguments: DPOArguments) -> bool:
    return Path(arguments.export.path, "config.json").is_file()


def describe_export_command(run: Path, assignments: Sequence[str] = ()) -> str:
    """Returns the command that exports a finished run.

    Args:
        assignments: values of `--set`.
    """
    options = [part for assignment in assignments for part in ("--set", assignment)]
    return shlex.join(["python", "-m", "response_generator.export", str(run), *options])


def merge_in_subprocess(arguments: DPOArguments, adapter: Path, assignments: Sequence[str] = ()) -> Path:
    """Merges the base model and a trained adapter, and writes the result to `export.path` once it has been checked.

    Args:
        adapter: the folder `adapter` of a run.
        assignments: values of `--set` with which the section `export` differs from that in the run's args.json.

    Raises:
        InputError: when base model and adapter do not fit.
        RunError: when the merged model differs from base + adapter, or cannot be computed or written.
        KeyboardInterrupt: when it is stopped; says what is finished and what is not.
    """
    command = describe_export_command(adapter.parent, assignments)
    advice = f"the adapter is saved in {adapter}; to export again: {command}"
    target = Path(arguments.export.path)
    print(f"export: merging into {get_16bit_base(arguments)[1]} …")
    try:
        # In a new process, because unsloth has patched transformers in this one with code that runs on the GPU only,
        # and because the system ends only the new process when memory runs out.
        with atomic_folder(target) as folder:
            message = call_in_new_process(merge_here, arguments, adapter, folder)
    except BrokenProcessPool as error:
        raise RunError(f"export: the system ended its process, probably for lack of memory; {advice}") from error
    except (RunError, OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise RunError(f"export: {error}; {advice}") from error
    except KeyboardInterrupt:
        export = "the export too" if is_exported(arguments) else f"the export is not; to export: {command}"
        raise KeyboardInterrupt(f"the adapter is finished, in {adapter}; {export}") from None
    print(message)
    return target


def merge_here(arguments: DPOArguments, adapter: Path, folder: Path) -> str:
    """What the new process does, see `merged_model.merge_adapter`."""
    import_backend("transformers")
    from response_generator.modeling import merged_model  # imports transformers

    return merged_model.merge_adapter(arguments, adapter, folder)
