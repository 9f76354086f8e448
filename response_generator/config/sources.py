"""Names of models, adapters and data sets in the args: a local path, or a hub repository as `owner/name[@revision]`.

Local paths are checked here, before anything is loaded; hub repositories are checked in `runs/hub_sources.py`.
"""

import os
import re
from enum import Enum
from pathlib import Path
from typing import Any

from response_generator.config import model_files, paths
from response_generator.errors import InputError

HUB_CACHE_FOLDER = re.compile(r".*/models--(?P<repository>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/?")
# A path from the root, a home folder or this folder on, but not the one in a web address.
LOCAL_PATH = re.compile(r"(?<![\w.~:/<-])(?:~[\w.-]*|\.{1,2})?/[^\s,;=\"']+")
DATASET_SUFFIXES = (".json", ".jsonl", ".parquet")
DEMO_MODELS_FOLDER = "assets"


class SourceKind(Enum):
    """What a name in the args leads to: the mark of a field in the schema. Errors are reported in this order."""

    BASE_MODEL = "causal language model"
    PRETRAINED_MODEL = "model of any class, which gets a new head"
    CLASSIFIER = "text-classification model"
    LANGUAGE_MODEL = "causal language model that scores replies"
    EXPORT_BASE = "causal language model that an export reads once, at the end"
    ADAPTER = "LoRA adapter"
    ADAPTER_OR_BASE = "LoRA adapter, or the bare base model"
    DATASET = "data set"


def looks_like_path(name: str) -> bool:
    repository = name.partition("@")[0]  # a revision may contain slashes: refs/pr/1
    return (
        name.startswith((".", "/", f"{DEMO_MODELS_FOLDER}/"))
        or repository.count("/") > 1
        or name.endswith(DATASET_SUFFIXES)
    )


def is_local(name: str) -> bool:
    repository = name.partition("@")[0]
    # os.path.exists, because Path.exists raises on names that no file can have, and a revision may be such a name.
    return looks_like_path(name) or os.path.exists(name) or (repository != "" and os.path.exists(repository))


def resolve_source(name: str) -> str:
    """Makes a local path absolute (see `paths.resolve_path`); returns a hub id unchanged."""
    return paths.resolve_path(name) if is_local(paths.expand_path(name)) else name


def strip_local_folders(name: str) -> str:
    """Reduces a local path to its last part, for files that are published; returns a hub id unchanged."""
    return Path(name).name if is_local(name) else name


def strip_folders_in(value: Any) -> Any:
    """Reduces the local paths in a value of the args to their last parts, also in a part of a text: "cache=/home/me/x"
    becomes "cache=x"."""
    if isinstance(value, dict):
        return {key: strip_folders_in(each) for key, each in value.items()}
    if isinstance(value, list):
        return [strip_folders_in(each) for each in value]
    if not isinstance(value, str):
        return value
    if LOCAL_PATH.match(value):
        return Path(value).name  # a path with spaces
    return LOCAL_PATH.sub(lambda path: Path(path[0]).name, value)


def split_revision(name: str) -> tuple[str, str | None]:
    """Splits `owner/name@revision`. The revision is None when none is given, and for every local path."""
    if is_local(name) or "@" not in name:
        return name, None
    repository, _, revision = name.partition("@")
    return repository, revision


def find_hub_revision(name: str) -> tuple[str, str | None]:
    """`split_revision`, but a folder in the hub's cache is replaced by its repository and commit."""
    found = HUB_CACHE_FOLDER.fullmatch(name)
    return (found["repository"].replace("--", "/"), found["commit"]) if found else split_revision(name)


def locate_source(name: str) -> str:
    """What a name leads to, however it is written: the real path, or the repository of whatever revision.

    Raises:
        ValueError: when it is no name of a file or a repository; see `resolve_source`.
    """
    repository, _ = find_hub_revision(resolve_source(name))
    return os.path.realpath(repository) if is_local(repository) else repository


def is_commit(revision: str | None) -> bool:
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None


def from_pretrained_keywords(name: str, trust_remote_code: bool = False) -> dict[str, Any]:
    """Returns the keywords that tell a `from_pretrained` of transformers which model or tokenizer to load.

    `trust_remote_code` is always among them: without it, transformers asks on standard input, and takes "y" for
    consent to run the code of the model's folder or repository.
    """
    repository, revision = split_revision(name)
    keywords = {"pretrained_model_name_or_path": repository, "trust_remote_code": trust_remote_code}
    return keywords | ({"revision": revision} if revision else {})


def join_dataset_revision(path: str, revision: str | None) -> str:
    """Returns `path@revision` for a hub data set whose revision is given in its own key; otherwise `path`."""
    return path if revision is None or is_local(path) or "@" in path else f"{path}@{revision}"


def find_model_source_errors(
    key: str, name: str, heads: tuple[str, ...] = model_files.CAUSAL_LM, needs_weights: bool = True
) -> list[str]:
    """Checks the configuration, tokenizer and weights of a local model; see `find_model_errors`."""
    if not is_local(name):
        return []  # `find_hub_errors` checks it
    if not Path(name, model_files.CONFIG).is_file():
        return [f"{key}: {name}: {describe_missing(name)}; needed: a folder with config.json, or a hub id"]
    return [f"{key}: {error}" for error in model_files.find_model_errors(Path(name), heads, needs_weights)]


def find_adapter_source_errors(key: str, name: str) -> list[str]:
    """Checks the configuration and the safetensors weights of a local adapter."""
    if not is_local(name):
        return []
    if not Path(name, model_files.ADAPTER_CONFIG).is_file():
        return [f"{key}: {name}: {describe_missing(name)}; needed: a PEFT adapter (adapter_config.json), or a hub id"]
    try:
        model_files.read_adapter(Path(name))
    except InputError as error:
        return [f"{key}: {message}" for message in error.messages]
    return []


def find_dataset_source_errors(key: str, path: str, revision: str | None = None, name: str | None = None) -> list[str]:
    """Checks path, revision and configuration name of a data set without reading its rows."""
    path_revision = split_revision(path)[1]
    if revision is not None and path_revision not in (None, revision):
        return [f"{key}: the path names the revision {path_revision}, the key revision {revision}; keep one of the two"]
    if not is_local(path):
        return []
    errors = [
        f"{key}.{field}: got {value!r}; only hub data sets have a {field}, and {path} is a local path; remove the key"
        for field, value in (("name", name), ("revision", revision))
        if value is not None
    ]
    if not Path(path).exists():
        needed = f"{', '.join(DATASET_SUFFIXES)}, a folder, or a hub id"
        errors.append(f"{key}.path: {path}: {describe_missing(path)}; needed: {needed}")
    elif not Path(path).is_file() and not Path(path).is_dir():
        errors.append(f"{key}.path: {path}: is neither a file nor a folder (a pipe?); write the rows into a file")
    elif Path(path).is_file() and not path.endswith(DATASET_SUFFIXES):
        errors.append(f"{key}.path: {path}: unknown file type; allowed: {', '.join(DATASET_SUFFIXES)}")
    return errors


def find_file_errors(key: str, name: str) -> list[str]:
    return [] if Path(name).is_file() else [f"{key}: {name}: {describe_missing(name)}; needed: a file"]


def describe_missing(name: str) -> str:
    path = Path(name)
    if not path.exists():
        local_path = name.partition("@")[0]
        if local_path != name and Path(local_path).exists():
            return f"{local_path} is a local path and has no revision; remove {name.removeprefix(local_path)}"
        if path.parent.absolute() == Path(DEMO_MODELS_FOLDER).absolute():  # not another folder of this name
            return "no such file or folder; make assets writes it"
        return "no such file or folder"
    return "is a folder with other content" if path.is_dir() else "is a file"
