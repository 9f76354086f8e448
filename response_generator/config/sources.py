"""Where a name in the args leads: a file or folder here, or a repository on the hub, which may be written with the
revision to read: `owner/name@revision`. Checked before anything loads."""

import os
import re
from pathlib import Path

from response_generator.config import model_files, paths
from response_generator.errors import InputError

DATASET_SUFFIXES = (".json", ".jsonl", ".parquet")
ADAPTER_FILES = (model_files.ADAPTER_CONFIG, model_files.ADAPTER_WEIGHTS)
MAX_COMMITS_SEARCHED = 20  # for one that holds an adapter, where the named revision does not
HUB_TIMEOUT_SECONDS = 8.0  # seconds; the libraries would retry for minutes


def looks_like_path(name: str) -> bool:
    repository = name.partition("@")[0]  # a revision may hold slashes: refs/pr/1
    return name.startswith((".", "/")) or repository.count("/") > 1 or name.endswith(DATASET_SUFFIXES)


def is_local(name: str) -> bool:
    repository = name.partition("@")[0]
    # Not pathlib's: a revision may be longer than the name of a file, or hold what no such name does.
    return looks_like_path(name) or os.path.exists(name) or (repository != "" and os.path.exists(repository))


def resolve_source(name: str) -> str:
    """A path of this machine made whole, see `paths.resolve_path`; any other name, a hub id, as it is."""
    return paths.resolve_path(name) if is_local(paths.expand_path(name)) else name


def strip_local_folders(name: str) -> str:
    """A name for files that leave this machine: of a local path the folders above it are left out."""
    return Path(name).name if is_local(name) else name


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision of `owner/name@revision`; None where no revision is written, and for every local path."""
    if is_local(name) or "@" not in name:
        return name, None
    repository, _, revision = name.partition("@")
    return repository, revision


def is_commit(revision: str | None) -> bool:
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None


def from_pretrained_keywords(name: str) -> dict[str, str]:
    """The keywords with which every `from_pretrained` of transformers finds a model or tokenizer."""
    repository, revision = split_revision(name)
    return {"pretrained_model_name_or_path": repository} | ({"revision": revision} if revision else {})


def join_dataset_revision(path: str, revision: str | None) -> str:
    """The one name of a data set whose revision may be written in its path or beside it."""
    return path if revision is None or is_local(path) or "@" in path else f"{path}@{revision}"


def find_model_source_errors(key: str, name: str, heads: tuple[str, ...] = model_files.CAUSAL_LM) -> list[str]:
    """A local model must be a folder with configuration, tokenizer and whole weights; see `find_model_errors`."""
    if not is_local(name):
        return []  # left to `find_hub_errors`
    if not Path(name, model_files.CONFIG).is_file():
        return [f"{key}: {name}: {describe_missing(name)}; needed: a folder with config.json, or a hub id"]
    return [f"{key}: {error}" for error in model_files.find_model_errors(Path(name), heads)]


def find_adapter_source_errors(key: str, name: str) -> list[str]:
    """A local adapter must hold its configuration and its weights as safetensors, both whole."""
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
    """What is wrong with the place of a data set, as far as it can be told without reading it."""
    written = split_revision(path)[1]
    if revision is not None and written not in (None, revision):
        return [f"{key}: path asks for the revision {written}, revision for {revision}; keep one of the two"]
    if not is_local(path):
        return []
    errors = [
        f"{key}.{field}: got {value!r}; {path} is on this machine, where nothing has a {field}; remove the key"
        for field, value in (("name", name), ("revision", revision))
        if value is not None
    ]
    if not Path(path).exists():
        needed = f"{', '.join(DATASET_SUFFIXES)}, a folder, or a hub id"
        errors.append(f"{key}.path: {path}: {describe_missing(path)}; needed: {needed}")
    elif not Path(path).is_file() and not Path(path).is_dir():
        errors.append(f"{key}.path: {path}: is neither a file nor a folder (a pipe?); write the rows into a file")
    elif Path(path).is_file() and not path.endswith(DATASET_SUFFIXES):
        errors.append(f"{key}.path: {path}: unknown kind of file; allowed: {', '.join(DATASET_SUFFIXES)}")
    return errors


def find_file_errors(key: str, name: str) -> list[str]:
    return [] if Path(name).is_file() else [f"{key}: {name}: {describe_missing(name)}; needed: a file"]


def describe_missing(name: str) -> str:
    path = Path(name)
    if not path.exists():
        here = name.partition("@")[0]
        if here != name and Path(here).exists():
            return f"{here} is on this machine, where nothing has a revision; remove {name.removeprefix(here)}"
        return "no such file or folder"
    return "is a folder of something else" if path.is_dir() else "is a file"


def find_hub_errors(repositories: dict[str, tuple[str, str]]) -> list[str]:
    """Asks the hub once for each repository at its revision, and gives up at the first sign of no network.

    Args:
        repositories: `{key in the args: (hub id, with its revision or without, "model", "adapter" or "dataset")}`,
            local ones left out.
    """
    if not repositories:
        return []
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    errors = []
    unreachable = None
    for key, (name, kind) in repositories.items():
        if "" in split_revision(name):
            errors.append(f"{key}: {name}: allowed: owner/name, or owner/name@revision")
            continue
        if unreachable is None:
            try:
                errors += [f"{key}: {name}: {message}" for message in find_repository_errors(name, kind)]
                continue
            except HFValidationError:
                errors.append(f"{key}: {name}: no such file or folder, and not a hub id")
                continue
            except HfHubHTTPError as error:
                errors.append(f"{key}: {name}: {describe_http_error(error)}")
                continue
            except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
                unreachable = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else "no network"
        if not is_cached(name, kind):
            errors.append(
                f"{key}: {name}: no such file or folder here, and the hub cannot be reached ({unreachable}); "
                f"connect, or name a local copy"
            )
    if unreachable and not errors:
        set_hub_offline(with_datasets=any(kind == "dataset" for _, kind in repositories.values()))
    return errors


def find_repository_errors(name: str, kind: str) -> list[str]:
    """What a repository that the hub has lacks for its use; raises the hub's errors."""
    from huggingface_hub import HfApi

    repository, revision = split_revision(name)
    repo_type = "dataset" if kind == "dataset" else "model"
    found = HfApi().repo_info(repository, revision=revision, repo_type=repo_type, timeout=HUB_TIMEOUT_SECONDS)
    HfApi().auth_check(repository, repo_type=repo_type)  # anyone may read about a gated repository
    files = {file.rfilename for file in found.siblings or []}
    absent = [file for file in ADAPTER_FILES if file not in files]
    if kind != "adapter" or not absent:
        return []
    with_adapter = find_last_commit_with_adapter(repository)
    way_out = (
        f"the last commit that holds one is {with_adapter}: write {repository}@{with_adapter}"
        if with_adapter
        else f"write owner/name@revision with a revision that does (looked at its last {MAX_COMMITS_SEARCHED} commits)"
    )
    return [f"holds no LoRA adapter at this revision (no {' and no '.join(absent)}); {way_out}"]


def find_last_commit_with_adapter(repository: str) -> str | None:
    """The newest commit of `main` that holds a LoRA adapter as safetensors."""
    from huggingface_hub import HfApi

    for commit in HfApi().list_repo_commits(repository)[:MAX_COMMITS_SEARCHED]:
        if all(HfApi().file_exists(repository, file, revision=commit.commit_id) for file in ADAPTER_FILES):
            return commit.commit_id
    return None


def set_hub_offline(with_datasets: bool) -> None:
    """Everything is in the cache: the libraries must not look for news of it for minutes."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    if with_datasets:
        from datasets import config

        config.HF_HUB_OFFLINE = True


def describe_http_error(error) -> str:
    from huggingface_hub.errors import RevisionNotFoundError

    status = error.response.status_code if error.response is not None else "?"
    if isinstance(error, RevisionNotFoundError):
        return "the hub has this repository, but no such revision; write a branch, a tag or a whole commit id"
    if status in (401, 403, 404):
        return (
            f"the hub has no such repository for you (HTTP {status}); check the name, or set HF_TOKEN if it is private"
        )
    return f"the hub answered HTTP {status}; try again"


def is_cached(name: str, kind: str) -> bool:
    if kind == "dataset":
        from datasets import config
        from datasets.naming import camelcase_to_snakecase

        repository, revision = split_revision(name)
        owner, slash, own_name = repository.rpartition("/")
        folder = Path(config.HF_DATASETS_CACHE, owner + slash.replace("/", "___") + camelcase_to_snakecase(own_name))
        return any(folder.glob(f"*/*/{revision if is_commit(revision) else '*'}"))
    return find_cached_commit(name, ADAPTER_FILES[0] if kind == "adapter" else "config.json") is not None


def find_cached_commit(name: str, file: str) -> str | None:
    """The commit of a hub repository whose `file` was downloaded for the revision in `name`; None where none was."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = split_revision(name)
    path = try_to_load_from_cache(repository, file, revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def fetch_adapter(name: str) -> Path:
    """The folder of an adapter, fetched from the hub when it is not here; never any pickled file.

    Raises:
        InputError: when the repository holds no safetensors adapter.
    """
    if is_local(name):
        return Path(name)
    from huggingface_hub import snapshot_download

    repository, revision = split_revision(name)
    patterns = ["*.json", "*.jinja", "*.model", "adapter_model.safetensors"]
    folder = snapshot_download(repository, revision=revision, allow_patterns=patterns)
    errors = find_adapter_source_errors("adapter", folder)
    if errors:
        raise InputError(*errors)
    return Path(folder)
