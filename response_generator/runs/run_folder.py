"""The run folder: checks that a run may use it, and writes args.json and environment.json into it."""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from response_generator.config import strict_json, validation
from response_generator.config.section import Section
from response_generator.constants import CANDIDATES_FOLDER, PAIR_LOGPS_FILE, PREDICTIONS_FILE, PREFERENCES_FILE
from response_generator.errors import InputError
from response_generator.runs import atomic_files, distributed, earlier_start, environment, run_lock, weights
from response_generator.runs.earlier_start import find_differing_keys
from response_generator.runs.environment import STARTS, WEIGHTS
from response_generator.runs.writable_folder import find_writing_errors

WANDB_ID_FILE = "wandb_id"
RESULT_FILES = ("log.jsonl", "metrics.json", PREDICTIONS_FILE, PAIR_LOGPS_FILE, PREFERENCES_FILE)
CHECKPOINT_FOLDER = re.compile("checkpoint-(0|[1-9][0-9]*)")  # its name; checkpoint-best is a user's own


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    arguments: the resolved arguments, as written to args.json. schema: their class, which knows the defaults of keys
    that an earlier version of this program did not write. sources: `{key: path or hub id}` of the models, adapters and
    classifiers whose weights must be the same at every start. args_files: the files that the arguments come from.
    """

    path: Path
    arguments: dict[str, Any]
    schema: type[Section] | None = None
    sources: dict[str, str] = field(default_factory=dict)
    args_files: tuple[str, ...] = ()

    @classmethod
    def of(cls, arguments: Section, sources: dict[str, str] | None = None, files: tuple[str, ...] = ()) -> "RunFolder":
        return cls(Path(arguments.output_dir), arguments.model_dump(mode="json"), type(arguments), sources or {}, files)

    @property
    def is_finished(self) -> bool:
        """Whether metrics.json exists: it is written last."""
        return (self.path / "metrics.json").is_file()

    def describe_finished(self, files: str, result: str | None = None) -> str:
        """What a program prints when the run is finished already, with the commit where this checkout has another, and
        the adapters that have changed since. Other models are not compared, because reading them can take a minute.

        Args:
            files: names of the files to look at.
            result: name of the folder with the model that the run has made.
        """
        text = f"{self.path} is finished and is kept: see {files} there"
        if result and not (self.path / result).is_dir():
            text += f"\nbut {self.path / result} is no longer there; to write it again, delete metrics.json and run "
            text += "the same command again: it starts from the last checkpoint, or anew where there is none"
        made_with = self.read_environment()
        made_at, here = made_with.get("commit"), environment.find_checkout_commit()
        if made_at and here and made_at != here:
            text += f"\nit was made at commit {environment.shorten_commit(made_at)}, this checkout is at "
            text += f"{environment.shorten_commit(here)}; to make it anew, name another output_dir"
        for key, name in self.sources.items():
            recorded = made_with.get(WEIGHTS, {}).get(key)
            if recorded and weights.is_local_adapter(name) and recorded != weights.identify(name, downloaded=False):
                text += f"\n{key}: {name} has changed since; to use it as it is now, name another output_dir"
        return text

    @property
    def has_results(self) -> bool:
        """Whether the folder holds a checkpoint, an adapter, a log line, a reply or metrics."""
        files = [self.path / name for name in RESULT_FILES]
        return (
            any(file.is_file() and file.stat().st_size for file in files)
            or any(CHECKPOINT_FOLDER.fullmatch(folder.name) for folder in self.path.glob("checkpoint-*"))
            or any(self.path.glob(f"{CANDIDATES_FOLDER}/*.jsonl"))
            or (self.path / "adapter").exists()
        )

    def holds(self, place: Path) -> bool:
        """Whether `place` is this folder or the predictions file in it."""
        return place.resolve() in (self.path.resolve(), (self.path / PREDICTIONS_FILE).resolve())

    def find_errors(self, keeps_finished: bool = False) -> list[str]:
        """Returns why this run cannot use the folder; only the main process checks. Leaves no file behind.

        Args:
            keeps_finished: whether the program writes nothing into a finished run; then it may be on a read-only disk.
        """
        if not distributed.is_main_process():
            return []
        try:
            if keeps_finished and self.is_finished:
                return self.find_content_errors()
            errors = find_writing_errors(self.path)
            files = self.path.iterdir() if self.path.is_dir() else ()
            # A start that failed on a full disk leaves a .part file.
            content = [file for file in files if file.suffix != ".part" and file.name != run_lock.LOCK_FILE]
            return errors or (self.find_content_errors() if content else [])
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
        try:
            recorded = self.read_environment().get(WEIGHTS, {})
        except InputError as error:
            return [f"output_dir: {error}"]
        keys = find_differing_keys(self.translate(earlier, recorded), self.arguments)
        if not keys or not self.has_results:  # without results, the earlier start failed, perhaps because of these
            return []
        return [f"output_dir: {self.path}: holds another run; differing: {', '.join(keys)}; name another folder"]

    def find_weight_errors(self, way_out: str = weights.OTHER_FOLDER) -> list[str]:
        """Returns which local weights changed since the run began; call it once it is known that they can be read.

        Args:
            way_out: see `weights.find_changes`.
        """
        recorded = self.read_environment().get(WEIGHTS) if distributed.is_main_process() and self.has_results else None
        now = self.identify_weights(downloaded=False) if recorded else {}
        return weights.find_changes(recorded or {}, now, self.sources, way_out)

    def translate(self, earlier: dict[str, Any], recorded: dict[str, weights.Identity]) -> dict[str, Any]:
        """Arguments of an earlier start as this start would have written them: with the defaults of new keys, where the
        folder is now, and with the present names of weights that are the same.

        Args:
            recorded: the weights of the earlier start.
        """
        earlier = self.follow_move(earlier)
        for key in find_differing_keys(earlier, self.arguments):
            name = self.sources.get(key)
            if name and recorded.get(key) and recorded[key] == weights.identify(name, downloaded=False):
                earlier = earlier_start.replace_value(earlier, key, name)
        return earlier

    def follow_move(self, earlier: dict[str, Any]) -> dict[str, Any]:
        earlier = validation.add_defaults(self.schema, earlier) if self.schema else earlier
        return earlier_start.follow_move(earlier_start.follow_server(earlier, self.arguments), self.arguments)

    def identify_weights(self, downloaded: bool) -> dict[str, weights.Identity]:
        """Identifies all sources that are known, see `weights.identify`. Only the main process reads them."""
        if not distributed.is_main_process():
            return {}
        found = {key: weights.identify(name, downloaded) for key, name in self.sources.items()}
        return {key: identity for key, identity in found.items() if identity}

    def start(self) -> None:
        """Creates and locks the folder and writes args.json and environment.json. Only the main process does this.

        Raises:
            InputError: when another process has started in the folder since it was checked, or when the folder has
                results of other arguments or weights.
        """
        if not distributed.is_main_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        run_lock.acquire(self.path)
        # Again: another start may have begun and ended here while this one prepared its data.
        errors = self.find_content_errors() if (self.path / "args.json").is_file() else []
        if errors:
            raise InputError(*errors)
        earlier, known = read_json(self.path / "args.json"), self.read_environment()
        now, recorded = environment.describe_environment(), known.get(WEIGHTS, {})
        changed = weights.find_changes(recorded, self.identify_weights(downloaded=True), self.sources)
        if self.translate(earlier, recorded) != self.arguments or (changed and not self.has_results):
            # Left by a failed start with other arguments or weights.
            for name in (environment.ENVIRONMENT_FILE, WANDB_ID_FILE):
                (self.path / name).unlink(missing_ok=True)
        self.note_weights()
        for line in self.describe_resumption(earlier, known, now) if self.has_results else []:
            print(line)
        if earlier_start.is_copy(earlier, self.path):
            (self.path / WANDB_ID_FILE).unlink(missing_ok=True)  # or both would log into one wandb run
        self.write_json("args.json", self.arguments)
        start = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "args_files": list(self.args_files)} | now
        self.note_environment(now | {STARTS: [*known.get(STARTS, []), start]})

    def describe_resumption(self, earlier: dict, known: dict, now: dict) -> list[str]:
        """What is to be said of a start that goes on with the results of an earlier one.

        Args:
            earlier: its arguments. known: its environment.json. now: the environment of this start.
        """
        lines = earlier_start.describe_move(earlier, self.path)
        for key in find_differing_keys(self.follow_move(earlier), self.arguments):
            lines.append(f"{key}: {self.sources.get(key)} holds the same weights as when this run began")
        if self.sources and not known.get(WEIGHTS):
            lines.append("nothing is known of the weights that this run began with; it goes on with those of now")
        changes = environment.describe_changes(known, now) if known else None
        return lines + ([f"changed since the last start of this run: {changes}"] if changes else [])

    def note_weights(self) -> None:
        """Adds the identity of the weights to environment.json.

        Raises:
            InputError: when the folder has results of other weights.
        """
        recorded, now = self.read_environment().get(WEIGHTS, {}), self.identify_weights(downloaded=True)
        errors = weights.find_changes(recorded, now, self.sources)
        if errors:
            raise InputError(*errors)
        self.note_environment({WEIGHTS: recorded | now})

    def read_environment(self) -> dict[str, Any]:
        """See `environment.read_environment`."""
        return environment.read_environment(self.path)

    def note_environment(self, facts: dict[str, Any]) -> None:
        """Adds to environment.json. Earlier entries stay: a resumed run may end without loading the model again."""
        if distributed.is_main_process():
            self.write_json(environment.ENVIRONMENT_FILE, self.read_environment() | facts)

    def note_commits(self, commits: dict[str, str | None]) -> None:
        """Adds the commits of the hub repositories that were read to environment.json."""
        self.note_environment({environment.COMMITS: self.read_environment().get(environment.COMMITS, {}) | commits})

    def flatten_environment(self) -> dict[str, str]:
        """environment.json as `{key: value}`, for a report; without the digests, and of the starts only the last."""
        return flatten({key: fact for key, fact in self.read_environment().items() if key not in (STARTS, WEIGHTS)})

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file atomically."""
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        atomic_files.atomic_write(self.path / name, text.encode("utf-8"))


def read_json(file: Path) -> dict[str, Any]:
    """Reads the JSON object in a file; returns an empty one when the file does not exist."""
    return strict_json.read_object(file) if file.is_file() else {}


def flatten(arguments: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flattens nested arguments to `{"section.key": value as JSON}`."""
    flat = {}
    for key, value in arguments.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value, ensure_ascii=False)
    return flat
