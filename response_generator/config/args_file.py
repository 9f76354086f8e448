"""Reads an args file together with the files that it extends, so that a run is written as what differs from another."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from response_generator.config import paths, strict_json
from response_generator.errors import InputError

EXTENDS_KEY = "extends"
# Objects that describe one model or one choice of data: what another file has in them would be wrong beside its own.
REPLACED_OBJECTS = ("special_tokens", "emotion_labels", "second_emotion_labels", "eval_datasets")
PROGRAM_SECTIONS = ("preference_args", "dpo_args", "evaluate_args")  # each is an args file itself, so it may extend one


@dataclass(frozen=True)
class ArgsFile:
    """The values of an args file and of all files that it extends.

    parts: `(file, its own values)` in the order in which they replace one another; the args file itself is the last.
    """

    values: dict[str, Any]
    parts: tuple[tuple[Path, dict[str, Any]], ...]

    @classmethod
    def read(cls, file: Path, extending: tuple[Path, ...] = ()) -> "ArgsFile":
        """
        Args:
            extending: the files that lead here: each extends the next one, and the last one extends `file`.

        Raises:
            InputError: with all errors, when a file cannot be read, or extends itself.
        """
        chain = (*extending, file)
        described = f"; {' extends '.join(map(str, chain))}" if extending else ""
        if os.path.realpath(file) in map(os.path.realpath, extending):
            raise InputError(f"{file}: {EXTENDS_KEY}: leads back to the same file{described}")
        if extending and not file.exists():
            raise InputError(
                f"{file}: no such file; a path in {EXTENDS_KEY} is relative to the file in which it stands{described}"
            )
        try:
            own = strict_json.read_object(file)
            bases = [(None, base) for base in list_bases(file, own.pop(EXTENDS_KEY, None))]
            for section in PROGRAM_SECTIONS:
                if isinstance(own.get(section), dict):
                    bases += [(section, base) for base in list_bases(file, own[section].pop(EXTENDS_KEY, None))]
        except InputError as error:
            raise InputError(f"{error}{described}") from error
        values, parts, errors = {}, (), []
        for section, base in bases:
            try:
                extended = cls.read(base, chain)
                extended = extended.put_into(section) if section else extended
                values, parts = merge(values, extended.values), parts + extended.parts
            except InputError as error:
                errors += error.messages
        if errors:
            raise InputError(*errors)
        return cls(merge(values, own), (*parts, (file, own)))

    def put_into(self, section: str) -> "ArgsFile":
        """The same values as those of a section of another args file."""
        return ArgsFile({section: self.values}, tuple((file, {section: values}) for file, values in self.parts))

    def find_origin(self, path: str) -> Path:
        """The file that wrote the value of `section.key`, or else the section; the args file if none did."""
        keys = path.split(".")
        for length in range(len(keys), 0, -1):
            for file, values in reversed(self.parts):
                if has_key(values, keys[:length]):
                    return file
        return self.parts[-1][0]


def list_bases(file: Path, written: Any) -> list[Path]:
    """The files that `file` extends: a path, or a list of paths, relative to its folder.

    Raises:
        InputError: for another type, or a path that cannot be one.
    """
    if written is None:
        return []
    names = [written] if isinstance(written, str) else written
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"{file}: {EXTENDS_KEY}: got {written!r}; allowed: the path of an args file, or a list of them"
        )
    try:
        return [Path(os.path.normpath(file.parent / paths.expand_path(name))) for name in names]
    except ValueError as error:
        raise InputError(f"{file}: {EXTENDS_KEY}: got {written!r}; {error}") from error


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `values` with `changes`: objects are merged key by key; all else is replaced, and so are
    `REPLACED_OBJECTS`."""
    merged = dict(values)
    for key, value in changes.items():
        if isinstance(value, dict):
            earlier = values.get(key)
            keeps = isinstance(earlier, dict) and key not in REPLACED_OBJECTS
            value = merge(earlier if keeps else {}, value)
        merged[key] = value
    return merged


def has_key(values: Any, keys: list[str]) -> bool:
    """Whether `values` holds the value of a key path."""
    for key in keys:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True
