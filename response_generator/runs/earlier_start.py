"""Compares the args of an earlier start with those of this one, also where the run folder was moved in between."""

import os
from pathlib import Path
from typing import Any

# Keys of the section server that say how it is reached, and not what it writes.
REACHING_KEYS = ("url", "concurrency", "timeout", "api_key_env")


def follow_server(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Args of an earlier start with the address and the load of the server of `now`."""
    before, after = earlier.get("server"), now.get("server")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return earlier
    return earlier | {"server": before | {key: after[key] for key in REACHING_KEYS if key in after}}


def follow_move(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Replaces the paths that moved together with the run folder in args that an earlier start has written.

    A path is replaced if it lay under the folder that was moved, and `now` has the same key with the path to which the
    move has brought it. So after `mv runs/a runs/b`, `output_dir: runs/a/evaluate` and `adapter: runs/a/dpo/adapter`
    are those of a start with runs/b; another adapter stays different.
    """
    if not isinstance(earlier.get("output_dir"), str) or not isinstance(now.get("output_dir"), str):
        return earlier
    before, after = Path(earlier["output_dir"]), Path(now["output_dir"])
    while before.name == after.name != "":  # the folders inside the moved one have kept their names
        before, after = before.parent, after.parent

    def follow(value: Any, current: Any) -> Any:
        if isinstance(value, dict) and isinstance(current, dict):
            return {key: follow(each, current.get(key)) for key, each in value.items()}
        if isinstance(value, list) and isinstance(current, list) and len(value) == len(current):
            return [follow(*pair) for pair in zip(value, current, strict=True)]
        if isinstance(value, str) and isinstance(current, str) and Path(value).is_relative_to(before):
            moved = str(after / Path(value).relative_to(before))
            return moved if moved == current else value
        return value

    return follow(earlier, now)


def find_differing_keys(old: dict, new: dict, prefix: str = "") -> list[str]:
    keys = []
    for key in sorted(set(old) | set(new)):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            keys += find_differing_keys(old[key], new[key], f"{prefix}{key}.")
        elif key not in old or key not in new or old[key] != new[key]:
            keys.append(prefix + key)
    return keys


def replace_value(arguments: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Returns nested arguments with another value of `key`, for example "scoring.emotion_model"."""
    section, dot, rest = key.partition(".")
    return arguments | {section: replace_value(arguments[section], rest, value) if dot else value}


def is_copy(earlier: dict[str, Any], folder: Path) -> bool:
    """Whether the folder that an earlier start has named is still there, and is not this one by another path."""
    before = Path(earlier.get("output_dir") or folder, "args.json")
    return before.is_file() and not before.samefile(folder / "args.json")


def describe_move(earlier: dict[str, Any], folder: Path) -> list[str]:
    """Says that the folder of an earlier start was copied or moved to `folder`, if it was."""
    before = earlier.get("output_dir")
    if is_copy(earlier, folder):
        return [f"this run is a copy of {before}"]
    return [f"this run was moved here from {before}"] if before and not os.path.exists(before) else []
