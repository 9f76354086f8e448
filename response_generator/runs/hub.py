"""Uploads a finished adapter or data set to the hub. A failed upload prints one line and does not stop the run."""

import os
import re
import shlex
import sys
from pathlib import Path

from response_generator.config.schema import HubArguments
from response_generator.constants import PREFERENCES_FILE

TOKEN_VARIABLE = "HF_TOKEN"
TITLES = {"model": "DPO adapter", "dataset": "preference data"}
DATASET_FILES = [PREFERENCES_FILE, "README.md", "margins.png"]
VALID_TOKEN = re.compile(r"[\x21-\x7e]+")
HUB_TIMEOUT_SECONDS = 60.0  # without a timeout huggingface_hub waits forever for a server that does not answer


def find_upload_errors(settings: HubArguments | None) -> list[str]:
    """Checks the token and the repository name without using the network; no errors when nothing is to be uploaded."""
    if settings is None:
        return []
    return [f"push_to_hub: {message}" for message in find_token_errors(settings.repo_id)] + find_repo_id_errors(
        settings.repo_id
    )


def find_token_errors(repo_id: str) -> list[str]:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return [
            f"{TOKEN_VARIABLE} is not set; set it to a token that may write to {repo_id}, or write push_to_hub: null"
        ]
    # HTTP libraries quote an invalid header in escaped form, and `push_folder` could not remove that from messages.
    if not VALID_TOKEN.fullmatch(token):
        return [f"{TOKEN_VARIABLE} holds a space, a line break or another invalid character; set it again"]
    return []


def find_repo_id_errors(repo_id: str) -> list[str]:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    message = f"push_to_hub.repo_id: got {repo_id!r}; allowed: owner/name"
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        return [f"{message}, for example my-account/response-generator"]
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        return [f"{message} with the characters that the hub allows ({error})"]
    return []


def push_adapter(folder: Path, settings: HubArguments) -> str | None:
    """Uploads every file of an adapter's folder; see `push_folder`."""
    return push_folder(folder, settings, "model", None)


def push_dataset(folder: Path, settings: HubArguments) -> str | None:
    """Uploads the data and its card from a run folder; see `push_folder`."""
    return push_folder(folder, settings, "dataset", DATASET_FILES)


def push_folder(folder: Path, settings: HubArguments, repo_type: str, files: list[str] | None) -> str | None:
    """Creates the repository if it does not exist and uploads files of `folder`.

    Args:
        repo_type: "model" or "dataset".
        files: names of the files; None: all.

    Returns:
        The repository's URL; None after a failure, whose reason is printed to stderr with a command to try again.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    reason = "; ".join(find_token_errors(settings.repo_id))
    if not reason:
        try:
            url = upload_folder(folder, settings, token, repo_type, files)
            print(f"push_to_hub: the {TITLES[repo_type]} is at {url}")
            return url
        except Exception as error:  # any error of network, disk or hub; the files stay in their folder
            reason = f"{type(error).__name__}: {flatten_message(error)}".replace(token, "***")
    print(
        f"push_to_hub: {reason}; to upload it yourself: {upload_command(folder, settings, repo_type, files)}",
        file=sys.stderr,
    )
    return None


def upload_folder(folder: Path, settings: HubArguments, token: str, repo_type: str, files: list[str] | None) -> str:
    from huggingface_hub import HfApi, get_session

    get_session().timeout = HUB_TIMEOUT_SECONDS
    api = HfApi(token=token)
    url = api.create_repo(settings.repo_id, repo_type=repo_type, private=settings.private, exist_ok=True)
    api.upload_folder(
        repo_id=settings.repo_id,
        repo_type=repo_type,
        folder_path=folder,
        allow_patterns=files,
        commit_message=f"Upload the {TITLES[repo_type]}",
    )
    return str(url)


def upload_command(folder: Path, settings: HubArguments, repo_type: str, files: list[str] | None) -> str:
    """Returns the shell command that repeats the upload; like this module it reads HF_TOKEN."""
    hf_program = Path(sys.executable).with_name("hf")
    # Without this option `hf upload` creates a public repository.
    visibility = "--private" if settings.private else "--no-private"
    command = [str(hf_program), "upload", settings.repo_id, str(folder), visibility]
    if repo_type != "model":
        command += ["--repo-type", repo_type]
    return shlex.join([*command, *(part for file in files or [] for part in ("--include", file))])


def flatten_message(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
