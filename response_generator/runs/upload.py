"""Uploads a finished adapter or data set to the hub. A failed upload prints one line and does not stop the run."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import huggingface_hub  # loads its parts when they are used

from response_generator.config.schema import HubArguments
from response_generator.constants import PREFERENCES_FILE
from response_generator.runs import atomic_files
from response_generator.runs.run_folder import read_json

TOKEN_VARIABLE = "HF_TOKEN"
TITLES = {"model": "DPO adapter", "dataset": "preference data"}
DATASET_FILES = [PREFERENCES_FILE, "README.md", "margins.png"]
UPLOAD_FILE = "upload.json"  # in the run folder: the url, or the error
VALID_TOKEN = re.compile(r"[\x21-\x7e]+")
UPLOAD_TIMEOUT_SECONDS = 60.0  # without a timeout huggingface_hub waits forever for a server that does not answer


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
    # HTTP libraries quote an invalid header in escaped form, and `push` could not remove that from messages.
    if not VALID_TOKEN.fullmatch(token):
        return [f"{TOKEN_VARIABLE} holds a space, a line break or another invalid character; set it again"]
    return []


def find_repo_id_errors(repo_id: str) -> list[str]:
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # takes half a second

    message = f"push_to_hub.repo_id: got {repo_id!r}; allowed: owner/name"
    if repo_id.count("/") != 1 or not all(repo_id.split("/")):
        return [f"{message}, for example my-account/response-generator"]
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        return [f"{message} with the characters that the hub allows ({error})"]
    return []


def push_adapter(run: Path, settings: HubArguments) -> str | None:
    """Uploads every file of the adapter of a run; see `push`."""
    return push(run, settings, "model")


def push_dataset(run: Path, settings: HubArguments) -> str | None:
    """Uploads the data of a run and its card; see `push`."""
    return push(run, settings, "dataset")


def push(run: Path, settings: HubArguments, repo_type: str) -> str | None:
    """Creates the repository if it does not exist, uploads what a run has made, and notes in UPLOAD_FILE of the run
    folder whether that succeeded.

    Args:
        repo_type: "model" or "dataset".

    Returns:
        The repository's URL; None after a failure, whose reason is printed to stderr with a command to try again.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    url, reason = None, "; ".join(find_token_errors(settings.repo_id))
    if not reason:
        try:
            url = upload_folder(*list_content(run, repo_type), settings, token, repo_type)
        except Exception as error:  # any error of network, disk or hub; the files stay in their folder
            reason = f"{type(error).__name__}: {flatten_message(error)}".replace(token, "***")
    if url:
        print(f"push_to_hub: the {TITLES[repo_type]} is at {url}")
    else:
        command = upload_command(run, settings, repo_type)
        print(f"push_to_hub: {reason}; to upload it yourself: {command}", file=sys.stderr)
    try:
        record = {"url": url} if url else {"error": reason}
        atomic_files.atomic_write(run / UPLOAD_FILE, json.dumps(record).encode("ascii"))
    except OSError as error:  # what the run has made is complete
        print(f"push_to_hub: {run / UPLOAD_FILE}: could not be written ({error.strerror})", file=sys.stderr)
    return url


def describe_missing_upload(run: Path, settings: HubArguments | None, repo_type: str) -> list[str]:
    """Returns a line with the reason and the command when a finished run should have been uploaded and was not."""
    record = read_json(run / UPLOAD_FILE)
    if settings is None or "url" in record:
        return []
    reason = f" ({record['error']})" if "error" in record else ""
    return [
        f"push_to_hub: the {TITLES[repo_type]} was not uploaded{reason}; to upload it yourself: "
        f"{upload_command(run, settings, repo_type)}"
    ]


def list_content(run: Path, repo_type: str) -> tuple[Path, list[str] | None]:
    """Returns the folder to upload and the names of its files; None: all."""
    return (run / "adapter", None) if repo_type == "model" else (run, DATASET_FILES)


def upload_folder(folder: Path, files: list[str] | None, settings: HubArguments, token: str, repo_type: str) -> str:
    huggingface_hub.get_session().timeout = UPLOAD_TIMEOUT_SECONDS
    api = huggingface_hub.HfApi(token=token)
    url = api.create_repo(settings.repo_id, repo_type=repo_type, private=settings.private, exist_ok=True)
    api.upload_folder(
        repo_id=settings.repo_id,
        repo_type=repo_type,
        folder_path=folder,
        allow_patterns=files,
        commit_message=f"Upload the {TITLES[repo_type]}",
    )
    return str(url)


def upload_command(run: Path, settings: HubArguments, repo_type: str) -> str:
    """Returns the shell command that repeats the upload; like this module it reads HF_TOKEN."""
    folder, files = list_content(run, repo_type)
    hf_program = Path(sys.executable).with_name("hf")
    # Without this option `hf upload` creates a public repository.
    visibility = "--private" if settings.private else "--no-private"
    command = [str(hf_program), "upload", settings.repo_id, str(folder), visibility]
    if repo_type != "model":
        command += ["--repo-type", repo_type]
    return shlex.join([*command, *(part for file in files or [] for part in ("--include", file))])


def flatten_message(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
