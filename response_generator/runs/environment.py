"""environment.json: what each start ran with, as command, commit, package versions and hardware, and what changed."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.runs import distributed

RECORDED_PACKAGES = "torch transformers trl peft unsloth unsloth_zoo bitsandbytes datasets accelerate wandb".split()
ENVIRONMENT_FILE = "environment.json"
STARTS, WEIGHTS, PACKAGES, COMMITS = "starts", "weights", "packages", "commits"  # keys in it
RESTORE = "restore it, or delete it: then nothing is known of the run's weights and earlier starts"
PROJECT_FOLDER = Path(__file__).resolve().parents[2]


def describe_environment() -> dict[str, Any]:
    """Returns command line, commit, hardware and package versions. Copies no environment variable: some are secret."""
    import torch  # here, because a run folder is checked before torch is loaded

    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "command": " ".join(sys.argv),
        "commit": find_checkout_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": find_processor_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": devices or ["cpu"],
        "processes": distributed.world_size(),
        "packages": {name: version(name) for name in RECORDED_PACKAGES},
    }


def describe_changes(earlier: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Says which packages, and whether Python or this program, differ between two starts; None where none do."""
    before, after = ({"Python": start.get("python")} | start.get("packages", {}) for start in (earlier, now))
    changes = [f"{name} {before[name]} -> {after.get(name)}" for name in before if before[name] != after.get(name)]
    commits = [shorten_commit(start.get("commit") or "unknown") for start in (earlier, now)]
    if commits[0] != commits[1]:
        changes.append(f"this program's commit {' -> '.join(commits)}")
    return ", ".join(changes) or None


def find_checkout_commit(folder: Path = PROJECT_FOLDER) -> str | None:
    """Returns the commit of the checkout in `folder`, with "+changes" when files differ from it.

    None where `folder` is not the top of a checkout: a repository around an installed package is another project's.
    """
    # The variables are set where git itself starts a program, and name the repository that it works on.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def ask_git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(ask_git("rev-parse", "--show-toplevel")) != folder.resolve():
            return None
        return ask_git("rev-parse", "HEAD") + ("+changes" if ask_git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def shorten_commit(commit: str) -> str:
    digits, plus, changes = commit.partition("+")
    return digits[:8] + plus + changes


def find_processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def read_environment(folder: Path) -> dict[str, Any]:
    """What this start and earlier ones have noted in environment.json; empty where there is none.

    Raises:
        InputError: when it is damaged.
    """
    file = folder / ENVIRONMENT_FILE
    try:
        noted = strict_json.read_object(file) if file.is_file() else {}
    except InputError as error:
        raise InputError(f"{error}; {RESTORE}") from error
    valid = isinstance(noted.get(STARTS, []), list)
    valid &= all(isinstance(noted.get(key, {}), dict) for key in (WEIGHTS, PACKAGES, COMMITS))
    if not valid or not all(isinstance(identity, dict) for identity in noted.get(WEIGHTS, {}).values()):
        raise InputError(f"{file}: has another structure than this program writes; {RESTORE}")
    return noted
