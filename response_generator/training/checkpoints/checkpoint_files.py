"""The files of a checkpoint: which belong to it, whether they are as they were written, and their removal. No torch."""

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.runs import atomic_files
from response_generator.runs.run_folder import CHECKPOINT_FOLDER

RUN_IDENTITY_FILE = "run.json"  # args, weights, data, digests of the other files; written last: it marks completeness
STARTED_FILE = "run.json.part"  # in its place from the first file on
FILES_KEY = "files"  # in run.json: {name: {"size": bytes, "sha256": hexadecimal digits}}
STATE_FILE = "trainer_state.json"
LOG_SUMS_FILES = "log_sums_*.json"
REQUIRED_FILES = (  # in the order of writing
    "*model.safetensors",  # of an adapter or of a whole model
    "optimizer.pt",
    "scheduler.pt",
    "rng_state*.pth",
    STATE_FILE,
)
OTHER_FILES = (  # in the order of writing, by safetensors, PEFT, tokenizers and transformers
    ".tmp?????? adapter_config.json config.json chat_template.jinja tokenizer_config.json special_tokens_map.json "
    "added_tokens.json vocab.json vocab.txt merges.txt tokenizer.model tokenizer.json scaler.pt"
).split()
PEFT_CARD = "README.md"  # in a complete checkpoint it is a user's own


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints in a run folder, complete or not, oldest first. Other folders of such a name are a user's."""
    folders = [path for path in run.glob("checkpoint-*") if CHECKPOINT_FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(filter(is_checkpoint, folders), key=parse_step)


def is_checkpoint(folder: Path) -> bool:
    """Whether this program wrote a folder: it has one of two files from the first to the last, and is empty before. A
    copy of a checkpoint under another number is a user's."""
    is_marked = any((folder / name).is_file() for name in (RUN_IDENTITY_FILE, STARTED_FILE))
    return (is_marked and read_step(folder) in (None, parse_step(folder))) or not any(folder.iterdir())


def read_step(checkpoint: Path) -> int | None:
    """The step in the trainer's state; None where it cannot be read."""
    file = checkpoint / STATE_FILE
    try:
        return parse_state(file, file.stat().st_size, file.stat().st_mtime_ns).get("global_step")
    except (OSError, ValueError, AttributeError):
        return None


@functools.cache  # its history may be long
def parse_state(file: Path, *facts: int) -> Any:
    return strict_json.parse_json(file.read_text(encoding="utf-8"), allow_nan=True)


def parse_step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def list_files(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint but for `run.json`; a user's own files are none of them."""
    patterns = (*OTHER_FILES, *REQUIRED_FILES, LOG_SUMS_FILES)
    return [file for pattern in patterns for file in sorted(checkpoint.glob(pattern)) if not file.is_dir()]


def find_newest_file(checkpoint: Path) -> Path:
    """The file that was written last; the folder where there is none."""
    files = reversed(list_files(checkpoint))  # of two files of the same time, the one that is written later
    return max(files, key=lambda file: file.stat().st_mtime_ns, default=checkpoint)


def missing_files(checkpoint: Path) -> list[str]:
    """Files that a checkpoint lacks to be resumed from."""
    return [name for name in (*REQUIRED_FILES, RUN_IDENTITY_FILE) if not any(checkpoint.glob(name))]


def start(checkpoint: Path) -> None:
    """Marks a folder as a checkpoint that is being written."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / STARTED_FILE).touch()


def complete(checkpoint: Path, run_identity: dict[str, Any]) -> None:
    """Forces all files of a checkpoint to the disk, then marks it as complete. Either survives a power loss."""
    files = {}
    for file in list_files(checkpoint):
        fsync(file)
        files[file.name] = {"size": file.stat().st_size, "sha256": compute_sha256(file)}
    marker = json.dumps(run_identity | {FILES_KEY: files})
    atomic_files.atomic_write(checkpoint / RUN_IDENTITY_FILE, marker.encode("utf-8"))
    fsync(checkpoint)
    fsync(checkpoint.parent)


def find_damage(checkpoint: Path) -> str | None:
    """Which file of a complete checkpoint is not as it was written, and how; None when all are."""
    try:
        files = strict_json.read_object(checkpoint / RUN_IDENTITY_FILE).get(FILES_KEY)
    except InputError as error:
        return str(error)
    if files is None:  # of an earlier version of this program, which wrote no digests
        json_files = (checkpoint / STATE_FILE, *checkpoint.glob(LOG_SUMS_FILES))
        changes = (describe_broken_json(file) for file in json_files)
    elif isinstance(files, dict):
        changes = (describe_change(checkpoint / name, written) for name, written in files.items())
    else:
        return f"{RUN_IDENTITY_FILE} has changed since it was written"
    return next(filter(None, changes), None)


def describe_broken_json(file: Path) -> str | None:
    try:
        strict_json.parse_json(file.read_text(encoding="utf-8"), allow_nan=True)
    except (OSError, ValueError) as error:
        return f"{file.name} cannot be read ({error})"
    return None


def describe_change(file: Path, written: Any) -> str | None:
    """How a file differs from `written`, its size and digest in run.json; None when it does not."""
    try:
        size = file.stat().st_size
        if size != written["size"]:
            return f"{file.name} has {size} bytes instead of {written['size']}"
        if compute_sha256(file) != written["sha256"]:
            return f"{file.name} has changed since it was written (another sha256)"
    except FileNotFoundError:
        return f"lacks {file.name}"
    except OSError as error:
        return f"{file.name} cannot be read ({error.strerror})"
    except (KeyError, TypeError):
        return f"{RUN_IDENTITY_FILE} has changed since it was written"
    return None


def compute_sha256(file: Path) -> str:
    facts = file.stat()
    return hash_once(file, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@functools.cache  # the last checkpoint is looked for several times in a start, and may have gigabytes
def hash_once(file: Path, *facts: int) -> str:
    """The sha256 of a file, read again only when `facts` about it have changed."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def remove(checkpoint: Path) -> None:
    """Removes the files of a checkpoint, and its folder unless a user has put others there. Errors are ignored."""
    files = [*list_files(checkpoint), checkpoint / STARTED_FILE]
    if (checkpoint / RUN_IDENTITY_FILE).is_file():
        with contextlib.suppress(OSError):
            # First, so that what is half removed is not complete.
            os.replace(checkpoint / RUN_IDENTITY_FILE, checkpoint / STARTED_FILE)
    else:
        files.append(checkpoint / PEFT_CARD)
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()
    with contextlib.suppress(OSError):
        checkpoint.rmdir()


def rotate(run: Path, save_total_limit: int | None, best: Path | None) -> None:
    """Removes checkpoints that are older than the last complete one, but for `save_total_limit` complete ones in all.

    Args:
        save_total_limit: None keeps all.
        best: is kept, too.
    """
    if save_total_limit is None:
        return
    checkpoints = list_checkpoints(run)
    complete_ones = [folder for folder in checkpoints if not missing_files(folder)]
    last = complete_ones[-1]
    kept = [last, *(folder for folder in complete_ones[:-1] if best and folder.name == best.name)]
    others = [folder for folder in complete_ones if folder not in kept]
    kept += others[max(0, len(others) + len(kept) - save_total_limit) :]
    for folder in checkpoints[: checkpoints.index(last)]:
        if folder not in kept:
            remove(folder)


def fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
