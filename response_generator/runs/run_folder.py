"""The run folder: checks that a run may use it, and writes args.json and environment.json into it."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from response_generator.config import strict_json, validation
from response_generator.config.schema import Section
from response_generator.config.validation import RENAMED_KEYS
from response_generator.constants import CANDIDATES_FOLDER, PAIR_LOGPS_FILE, PREDICTIONS_FILE, PREFERENCES_FILE
from response_generator.errors import InputError
from response_generator.runs import atomic_files, distributed, run_lock

WANDB_ID_FILE = "wandb_id"
RESULT_FILES = ("log.jsonl", "metrics.json", PREDICTIONS_FILE, PAIR_LOGPS_FILE, PREFERENCES_FILE)
START_FILES = ("environment.json", WANDB_ID_FILE)  # written before the first result
PACKAGES = "torch transformers trl peft unsloth unsloth_zoo bitsandbytes datasets accelerate wandb".split()


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    arguments: the resolved arguments, as written to args.json. schema: their class, which knows the defaults of keys
    that an earlier version of this program did not write.
    """

    path: Path
    arguments: dict[str, Any]
    schema: type[Section] | None = None

    @classmethod
    def of(cls, arguments: Section) -> "RunFolder":
        return cls(Path(arguments.output_dir), arguments.model_dump(mode="json"), type(arguments))

    @property
    def is_finished(self) -> bool:
        """Whether metrics.json exists: it is written last."""
        return (self.path / "metrics.json").is_file()

    def describe_finished(self, files: str) -> str:
        """What a program prints when the run is finished already, with the commit where this checkout has another.

        Args:
            files: names of the files to look at.
        """
        text = f"{self.path} is finished and is kept: see {files} there"
        made_at, here = read_json(self.path / "environment.json").get("commit"), find_checkout_commit()
        if made_at and here and made_at != here:
            text += f"\nit was made at commit {shorten_commit(made_at)}, this checkout is at {shorten_commit(here)}; "
            text += "to make it anew, remove the folder or name another"
        return text

    @property
    def has_results(self) -> bool:
        """Whether the folder holds a checkpoint, an adapter, a log line, a reply or metrics."""
        files = [self.path / name for name in RESULT_FILES]
        has_file = any(file.is_file() and file.stat().st_size for file in files)
        return (
            has_file
            or any(self.path.glob("checkpoint-*"))
            or any(self.path.glob(f"{CANDIDATES_FOLDER}/*.jsonl"))
            or (self.path / "adapter").exists()
        )

    def holds(self, place: Path) -> bool:
        """Whether `place` is this folder or the predictions file in it."""
        return place.resolve() in (self.path.resolve(), (self.path / PREDICTIONS_FILE).resolve())

    def find_errors(self) -> list[str]:
        """Returns why this run cannot use the folder; only the main process checks. Leaves no file behind."""
        if not distributed.is_main_process():
            return []
        try:
            nearest = next(place for place in (self.path, *self.path.absolute().parents) if os.path.lexists(place))
            if not nearest.exists():
                return [
                    f"output_dir: {nearest}: is a link to {os.readlink(nearest)}, which does not exist; name a folder"
                ]
            if not nearest.is_dir():
                return [f"output_dir: {nearest}: is a file; name a folder"]
            with tempfile.TemporaryDirectory(dir=nearest):
                pass
            holder = run_lock.find_holder(self.path)
            if holder:
                return [run_lock.describe_holder(self.path, holder)]
            files = list(self.path.iterdir()) if self.path.is_dir() else []
            # A start that failed on a full disk leaves a .part file.
            content = [file for file in files if file.suffix != ".part" and file.name != run_lock.LOCK_FILE]
            return self.find_content_errors() if content else []
        except OSError as error:
            return [f"output_dir: {self.path}: cannot be written to ({error.strerror}); name another folder"]

    def find_content_errors(self) -> list[str]:
        file = self.path / "args.json"
        if not file.is_file():
            return [f"output_dir: {self.path}: is not empty and not a run folder (no args.json); name another folder"]
        try:
            earlier = strict_json.read_object(file)
        except InputError as error:
            return [f"output_dir: {error}; move the folder away or name another"]
        if self.is_same_run(earlier):
            return []
        if not self.has_results:
            return []  # the earlier start failed, perhaps because of these arguments
        renamed_keys = [f"{key} is now {RENAMED_KEYS[key]}" for key in flatten(earlier) if key in RENAMED_KEYS]
        if renamed_keys:
            return [
                f"output_dir: {self.path}: was written by an earlier version of this program, whose args had other "
                f"names ({', '.join(renamed_keys)}); name another folder"
            ]
        keys = ", ".join(find_differing_keys(self.add_defaults(earlier), self.arguments))
        return [
            f"output_dir: {self.path}: holds another run; differing: {keys}; name another folder, or remove this one"
        ]

    def is_same_run(self, earlier: dict[str, Any]) -> bool:
        """Whether arguments that were written earlier are those of this run."""
        return self.add_defaults(earlier) == self.arguments

    def add_defaults(self, earlier: dict[str, Any]) -> dict[str, Any]:
        return validation.add_defaults(self.schema, earlier) if self.schema else earlier

    def start(self) -> None:
        """Creates and locks the folder and writes args.json and environment.json. Only the main process does this.

        Raises:
            InputError: when another process has started in the folder since it was checked.
        """
        if not distributed.is_main_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        run_lock.acquire(self.path)
        if not self.is_same_run(read_json(self.path / "args.json")):
            for name in START_FILES:  # left by a failed start with other arguments
                (self.path / name).unlink(missing_ok=True)
        self.write_json("args.json", self.arguments)
        self.note_environment(describe_environment())

    def read_environment(self) -> dict[str, Any]:
        """What this start and an earlier one have noted in environment.json; empty where there is none."""
        return read_json(self.path / "environment.json")

    def note_environment(self, facts: dict[str, Any]) -> None:
        """Adds to environment.json. Earlier entries stay: a resumed run may end without loading the model again."""
        if not distributed.is_main_process():
            return
        self.write_json("environment.json", read_json(self.path / "environment.json") | facts)

    def note_commits(self, commits: dict[str, str | None]) -> None:
        """Adds the commits of the hub repositories that were read to environment.json."""
        known = read_json(self.path / "environment.json").get("commits", {})
        self.note_environment({"commits": known | commits})

    def flatten_environment(self) -> dict[str, str]:
        """environment.json as `{key: value}`, for a report."""
        return flatten(read_json(self.path / "environment.json"))

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        atomic_files.atomic_write(self.path / name, text.encode("utf-8"))


def read_json(file: Path) -> dict[str, Any]:
    """Reads the JSON object in a file; returns an empty one when the file does not exist."""
    return strict_json.read_object(file) if file.is_file() else {}


def find_differing_keys(old: dict, new: dict, prefix: str = "") -> list[str]:
    keys = []
    for key in sorted(set(old) | set(new)):
        if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
            keys += find_differing_keys(old[key], new[key], f"{prefix}{key}.")
        elif key not in old or key not in new or old[key] != new[key]:
            keys.append(prefix + key)
    return keys


def flatten(arguments: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens nested arguments to `{"section.key": value as JSON}`."""
    flat = {}
    for key, value in arguments.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value, ensure_ascii=False)
    return flat


def describe_environment() -> dict[str, Any]:
    """Returns command line, commit, hardware and package versions. Copies no environment variable: some are secret."""
    import torch

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


def find_checkout_commit() -> str | None:
    """Returns the commit of this checkout, with "+changes" when files differ from it; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if status.strip() else "")


def shorten_commit(commit: str) -> str:
    digits, plus, changes = commit.partition("+")
    return digits[:8] + plus + changes


def find_processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
