"""Which weights a run reads: a digest of each local file, and the commit of each hub repository.

The digest is XXH3 (128 bits) over the whole content: half a second per gigabyte with reading the file from memory,
also on processors without instructions for SHA-256, on which that takes seconds. Size and time are not part of it, so a
copy is the same. It finds every accidental change; it is not made to withstand an attacker.
"""

import hashlib
from functools import cache
from pathlib import Path

import xxhash

from response_generator.config import model_files
from response_generator.config.sources import is_commit, is_local, split_revision
from response_generator.runs.hub_sources import find_cached_commit

Identity = dict[str, str]  # {file: digest} of a local folder, {"commit": commit} of a hub repository

COMMIT = "commit"
ALGORITHM = "xxh3-128"
OTHER_FOLDER = "name another output_dir"


def identify(name: str, downloaded: bool) -> Identity:
    """Identifies a model, adapter or classifier; empty where nothing is known yet.

    Args:
        downloaded: whether the libraries have read the repository in this process, so that the commit in the cache is
            the current one of its branch. Before that, only a commit that `name` itself gives is known.
    """
    if is_local(name):
        return {file.name: digest_file(file) for file in model_files.find_identifying_files(Path(name))}
    revision = split_revision(name)[1]
    if is_commit(revision):
        return {COMMIT: revision}
    files = (model_files.CONFIG, model_files.ADAPTER_CONFIG)
    commit = next(filter(None, (find_cached_commit(name, file) for file in files)), None) if downloaded else None
    return {COMMIT: commit} if commit else {}


def is_local_adapter(name: str) -> bool:
    return is_local(name) and Path(name, model_files.ADAPTER_WEIGHTS).is_file()


def digest_file(file: Path) -> str:
    status = file.stat()
    return digest_content(file, status.st_size, status.st_mtime_ns)


@cache
def digest_content(file: Path, size: int, modified_ns: int) -> str:
    """The digest of a file as it was with this size and time: each start asks several times for the same one."""
    with open(file, "rb") as content:
        return f"{ALGORITHM}:{hashlib.file_digest(content, xxhash.xxh3_128).hexdigest()}"


def find_changes(
    recorded: dict[str, Identity],
    now: dict[str, Identity],
    names: dict[str, str],
    way_out: str = OTHER_FOLDER,
) -> list[str]:
    """Returns an error for each source that is another one than when the run began.

    Args:
        recorded, now: by key in the args. What one of the two does not know is not compared.
        names: `{key: path or hub id}` of the args.
        way_out: what to do instead of bringing back the earlier source.
    """
    errors = []
    for key in [key for key in now if recorded.get(key) and now[key] and recorded[key] != now[key]]:
        before, after = recorded[key], now[key]
        if COMMIT in before and COMMIT in after:
            pinned = f"{split_revision(names[key])[0]}@{before[COMMIT]}"
            errors.append(
                f"{key}: {names[key]}: is now commit {after[COMMIT]}, but this run began with {before[COMMIT]}; write "
                f"{pinned}, or {way_out}"
            )
        else:
            files = sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
            errors.append(
                f"{key}: {names[key]}: {' and '.join(files)} changed since this run began; put back what was there, or "
                f"{way_out}"
            )
    return errors
