"""Where a name in the args leads: a file or folder here, or a repository on the hub. Checked before anything loads."""

import os
from pathlib import Path

from response_generator.errors import InputError

DATA_ENDINGS = (".json", ".jsonl", ".parquet")
HUB_TIMEOUT = 8.0  # seconds; the libraries would retry for minutes


def looks_like_path(name: str) -> bool:
    return name.startswith((".", "/")) or name.count("/") > 1 or name.endswith(DATA_ENDINGS)


def is_local(name: str) -> bool:
    return looks_like_path(name) or Path(name).exists()


def model_faults(key: str, name: str) -> list[str]:
    """A local model must be a folder with a config.json; a hub id is left to `hub_faults`."""
    if is_local(name) and not Path(name, "config.json").is_file():
        return [f"{key}: {name}: {missing(name)}; needed: a folder with config.json, or a hub id"]
    return []


def adapter_faults(key: str, name: str) -> list[str]:
    """A local adapter must hold its configuration and its weights as safetensors."""
    if not is_local(name):
        return []
    folder = Path(name)
    if not (folder / "adapter_config.json").is_file():
        return [f"{key}: {name}: {missing(name)}; needed: a PEFT adapter (adapter_config.json), or a hub id"]
    if not (folder / "adapter_model.safetensors").is_file():
        return [f"{key}: {name}: holds no adapter_model.safetensors; pickled weights (.bin) are not loaded"]
    return []


def dataset_faults(key: str, name: str) -> list[str]:
    if not is_local(name):
        return []
    if not Path(name).exists():
        return [f"{key}.path: {name}: {missing(name)}; needed: {', '.join(DATA_ENDINGS)}, a folder, or a hub id"]
    if Path(name).is_file() and not name.endswith(DATA_ENDINGS):
        return [f"{key}.path: {name}: unknown kind of file; allowed: {', '.join(DATA_ENDINGS)}"]
    return []


def file_faults(key: str, name: str) -> list[str]:
    return [] if Path(name).is_file() else [f"{key}: {name}: {missing(name)}; needed: a file"]


def missing(name: str) -> str:
    path = Path(name)
    if not path.exists():
        return "no such file or folder"
    return "is a folder of something else" if path.is_dir() else "is a file"


def hub_faults(repositories: dict[str, tuple[str, str]]) -> list[str]:
    """Asks the hub once for each repository, and gives up at the first sign of no network.

    Args:
        repositories: `{key in the args: (hub id, "model" or "dataset")}`, local ones left out.
    """
    if not repositories:
        return []
    import httpx
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    faults = []
    unreachable = None
    for key, (name, kind) in repositories.items():
        if unreachable is None:
            try:
                HfApi().repo_info(name, repo_type=kind, timeout=HUB_TIMEOUT)
                HfApi().auth_check(name, repo_type=kind)  # anyone may read about a gated repository
                continue
            except HFValidationError:
                faults.append(f"{key}: {name}: no such file or folder, and not a hub id")
                continue
            except HfHubHTTPError as error:
                faults.append(f"{key}: {name}: {refusal(error)}")
                continue
            except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
                unreachable = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else "no network"
        if not is_cached(name, kind):
            faults.append(
                f"{key}: {name}: no such file or folder here, and the hub cannot be reached ({unreachable}); "
                f"connect, or name a local copy"
            )
    if unreachable and not faults:
        # Everything is in the cache: the libraries must not look for news of it for minutes.
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants.HF_HUB_OFFLINE = True
        if any(kind == "dataset" for _, kind in repositories.values()):
            from datasets import config

            config.HF_HUB_OFFLINE = True
    return faults


def refusal(error) -> str:
    status = error.response.status_code if error.response is not None else "?"
    if status in (401, 403, 404):
        return (
            f"the hub has no such repository for you (HTTP {status}); check the name, or set HF_TOKEN if it is private"
        )
    return f"the hub answered HTTP {status}; try again"


def is_cached(name: str, kind: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    if kind == "dataset":
        from datasets import config
        from datasets.naming import camelcase_to_snakecase

        owner, slash, own_name = name.rpartition("/")
        folder = owner + slash.replace("/", "___") + camelcase_to_snakecase(own_name)
        return Path(config.HF_DATASETS_CACHE, folder).is_dir()
    files = ("config.json", "adapter_config.json")
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)


def adapter_folder(name: str) -> Path:
    """The folder of an adapter, fetched from the hub when it is not here; never any pickled file.

    Raises:
        InputError: when the repository holds no safetensors adapter.
    """
    if is_local(name):
        return Path(name)
    from huggingface_hub import snapshot_download

    folder = snapshot_download(name, allow_patterns=["*.json", "*.jinja", "*.model", "adapter_model.safetensors"])
    faults = adapter_faults("adapter", folder)
    if faults:
        raise InputError(*faults)
    return Path(folder)
