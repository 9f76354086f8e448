"""Repositories on the Hugging Face hub: checks that they exist, finds their cached commits, downloads adapters."""

import os
import sys
from pathlib import Path

import huggingface_hub  # loads its parts when they are used
from huggingface_hub import constants

from response_generator.config.model_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CONFIG
from response_generator.config.source_list import Source
from response_generator.config.sources import (
    SourceKind,
    find_adapter_source_errors,
    is_commit,
    is_local,
    split_revision,
)
from response_generator.errors import InputError

ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
MAX_COMMITS_SEARCHED = 20  # when the named revision holds no adapter, search this many commits for one that does
CHECK_TIMEOUT_SECONDS = 8.0  # the libraries would retry for minutes


def find_hub_errors(sources: list[Source]) -> list[str]:
    """Checks each source that is not local at its revision on the hub. After the first network error only the cache is
    checked.

    When the hub cannot be reached and everything is cached, the libraries are set to offline mode.
    """
    sources = [source for source in sources if not is_local(source.name)]
    if not sources:
        return []
    # They take half a second, which a run with local files alone need not wait for.
    import httpx
    from huggingface_hub import errors as hub_errors

    errors = []
    unreachable = None
    for source in sources:
        key, name = source.name_key, source.name
        if "" in split_revision(name):
            errors.append(f"{key}: {name}: allowed: owner/name, or owner/name@revision")
            continue
        if unreachable is None:
            try:
                errors += [f"{key}: {name}: {message}" for message in find_repository_errors(name, source.kind)]
                continue
            except hub_errors.HFValidationError:
                errors.append(f"{key}: {name}: no such file or folder, and not a hub id")
                continue
            except hub_errors.RevisionNotFoundError:
                errors.append(
                    f"{key}: {name}: the repository is on the hub, but has no such revision; write a branch, a tag or "
                    f"a full commit id"
                )
                continue
            except hub_errors.HfHubHTTPError as error:
                errors.append(f"{key}: {name}: {describe_http_error(error)}")
                continue
            except (httpx.HTTPError, hub_errors.OfflineModeIsEnabled, OSError) as error:
                is_offline = isinstance(error, hub_errors.OfflineModeIsEnabled)
                unreachable = "HF_HUB_OFFLINE is set" if is_offline else "no network"
        if not is_cached(name, source.kind):
            errors.append(
                f"{key}: {name}: neither a local path nor in the cache, and the hub cannot be reached ({unreachable}); "
                f"connect to the network, or name a local copy"
            )
    if unreachable and not errors:
        set_hub_offline()
    return errors


def find_repository_errors(name: str, kind: SourceKind) -> list[str]:
    """Checks that a repository may be read and, for an adapter, that it holds the adapter's files.

    Raises:
        HfHubHTTPError: when the hub has no such repository or revision, or denies access to it.
    """
    api = huggingface_hub.HfApi()
    repository, revision = split_revision(name)
    repo_type = "dataset" if kind is SourceKind.DATASET else "model"
    info = api.repo_info(repository, revision=revision, repo_type=repo_type, timeout=CHECK_TIMEOUT_SECONDS)
    api.auth_check(repository, repo_type=repo_type)  # repo_info succeeds for a gated repository without access
    files = {file.rfilename for file in info.siblings or []}
    missing_files = [file for file in ADAPTER_FILES if file not in files]
    if kind is not SourceKind.ADAPTER or not missing_files:
        return []
    commit = find_last_commit_with_adapter(repository)
    advice = (
        f"the last commit that holds one is {commit}: write {repository}@{commit}"
        if commit
        else f"none of its last {MAX_COMMITS_SEARCHED} commits holds one; write owner/name@revision with one that does"
    )
    return [f"holds no LoRA adapter at this revision (no {' and no '.join(missing_files)}); {advice}"]


def find_last_commit_with_adapter(repository: str) -> str | None:
    """Finds the newest commit of `main` with a safetensors LoRA adapter, among the last `MAX_COMMITS_SEARCHED`."""
    api = huggingface_hub.HfApi()
    for commit in api.list_repo_commits(repository)[:MAX_COMMITS_SEARCHED]:
        if all(api.file_exists(repository, file, revision=commit.commit_id) for file in ADAPTER_FILES):
            return commit.commit_id
    return None


def set_hub_offline() -> None:
    """Keeps the libraries from retrying for minutes to reach the hub when everything is in the cache."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:  # which has read the variable when it was imported
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def describe_http_error(error) -> str:
    status = error.response.status_code if error.response is not None else "?"
    if status in (401, 403, 404):
        return (
            f"no such repository, or you have no access to it (HTTP {status}); check the name, or set HF_TOKEN if it "
            f"is private or gated"
        )
    return f"the hub answered HTTP {status}; try again"


def is_cached(name: str, kind: SourceKind) -> bool:
    if kind is SourceKind.DATASET:
        from datasets import config, naming  # imports torch

        repository, revision = split_revision(name)
        owner, slash, own_name = repository.rpartition("/")
        folder = owner + slash.replace("/", "___") + naming.camelcase_to_snakecase(own_name)
        files = Path(config.HF_DATASETS_CACHE, folder).glob(f"*/*/{revision if is_commit(revision) else '*'}")
        return any(files)
    return find_cached_commit(name, ADAPTER_CONFIG if kind is SourceKind.ADAPTER else CONFIG) is not None


def find_cached_commit(name: str, file: str) -> str | None:
    """Returns the commit from which `file` was downloaded for the revision in `name`; None if it is not cached."""
    repository, revision = split_revision(name)
    path = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    return Path(path).parent.name if isinstance(path, str) else None


def fetch_adapter(name: str) -> Path:
    """Returns the folder of an adapter, downloaded from the hub when `name` is a hub id. Pickled files are left out.

    Raises:
        InputError: when the repository holds no safetensors adapter.
    """
    if is_local(name):
        return Path(name)
    repository, revision = split_revision(name)
    patterns = ["*.json", "*.jinja", "*.model", ADAPTER_WEIGHTS]
    folder = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=patterns)
    errors = find_adapter_source_errors("adapter", folder)
    if errors:
        raise InputError(*errors)
    return Path(folder)
