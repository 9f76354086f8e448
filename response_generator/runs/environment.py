"""What a start ran with: command, commit, package versions and hardware; what of it changed since the last start."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from response_generator.runs import distributed

PACKAGES = "torch transformers trl peft unsloth unsloth_zoo bitsandbytes datasets accelerate wandb".split()
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
        "packages": {name: version(name) for name in PACKAGES},
    }


def describe_changes(earlier: dict[str, Any], now: dict[str, Any]) -> str | None:
    """Says which packages, and whether Python or this program, differ between two starts; None where none do."""
    versions, commits = (
        [{"Python": start.get("python")} | start.get("packages", {}) for start in (earlier, now)],
        [start.get("commit") or "unknown" for start in (earlier, now)],
    )
    changes = [
        f"{name} {versions[0][name]} -> {versions[1].get(name)}"
        for name in versions[0]
        if versions[0][name] != versions[1].get(name)
    ]
    if commits[0] != commits[1]:
        changes.append(f"this program's commit {' -> '.join(map(shorten_commit, commits))}")
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
