"""The finished adapter on the hub. A failed upload is one line on the terminal and never costs the run."""

import os
import re
import shlex
import sys
from pathlib import Path

from response_generator.config.schema import HubArguments

TOKEN_VARIABLE = "HF_TOKEN"
VALID_TOKEN = re.compile(r"[\x21-\x7e]+")
HUB_TIMEOUT_SECONDS = 60.0  # seconds; huggingface_hub itself would wait for a silent server for ever


def find_upload_errors(settings: HubArguments | None) -> list[str]:
    """What would make an upload fail, as far as it can be known without the network; empty when nothing is uploaded."""
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
    # Libraries quote a header that they refuse, escaped: a spelling that `push` would not find to blot out.
    if not VALID_TOKEN.fullmatch(token):
        return [f"{TOKEN_VARIABLE} holds a space, a line break or another character that no token has; set it again"]
    return []


def find_repo_id_errors(repo_id: str) -> list[str]:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    shape = f"push_to_hub.repo_id: got {repo_id!r}; allowed: owner/name"
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        return [f"{shape}, for example my-account/response-generator"]
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        return [f"{shape} in the hub's own letters ({error})"]
    return []


def push_adapter(folder: Path, settings: HubArguments) -> str | None:
    """Creates the repository where it is not there yet and uploads every file of `folder`.

    Returns:
        The repository's URL; None after a failure, of which stderr tells the reason and the command that does it again.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    reason = "; ".join(find_token_errors(settings.repo_id))
    if not reason:
        try:
            url = upload_folder(folder, settings, token)
            print(f"push_to_hub: the adapter is at {url}")
            return url
        except Exception as error:  # network, disk, permission, errors of the hub: the adapter is safe in its folder
            reason = f"{type(error).__name__}: {flatten_message(error)}".replace(token, "***")
    print(f"push_to_hub: {reason}; to upload it by hand: {upload_command(folder, settings)}", file=sys.stderr)
    return None


def upload_folder(folder: Path, settings: HubArguments, token: str) -> str:
    from huggingface_hub import HfApi, get_session

    get_session().timeout = HUB_TIMEOUT_SECONDS
    api = HfApi(token=token)
    url = api.create_repo(settings.repo_id, private=settings.private, exist_ok=True)
    api.upload_folder(repo_id=settings.repo_id, folder_path=folder, commit_message="Upload the DPO adapter")
    return str(url)


def upload_command(folder: Path, settings: HubArguments) -> str:
    """The command that repeats the upload, for a shell; it reads HF_TOKEN like this module."""
    hf = Path(sys.executable).with_name("hf")
    # A repository that is not there yet would be public by default.
    visibility = "--private" if settings.private else "--no-private"
    return shlex.join([str(hf), "upload", settings.repo_id, str(folder), visibility])


def flatten_message(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
