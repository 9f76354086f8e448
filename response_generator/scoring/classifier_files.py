"""Files that this program writes beside the weights of a classifier, of which other classifiers have none."""

from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError
from pydantic import TypeAdapter, ValidationError

from response_generator.config.sources import is_local, split_revision
from response_generator.errors import InputError


def find_file(model: str, name: str) -> Path | None:
    """A file of a classifier (hub id or folder), downloaded from the hub; None where it has none.

    Without a network, it is what the cache has: every program that reads the classifier has asked for the file.
    """
    if is_local(model):
        file = Path(model, name)
        return file if file.is_file() else None
    repository, revision = split_revision(model)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    except EntryNotFoundError:
        return None


def read_file(file: Path, content: type) -> Any:
    """Reads a JSON file into a class of pydantic.

    Raises:
        InputError: when the file is damaged.
    """
    try:
        return TypeAdapter(content).validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{file}: {place + ': ' if place else ''}{first['msg']}; it is not as it was written: restore it, or train "
            f"the classifier again"
        ) from error
