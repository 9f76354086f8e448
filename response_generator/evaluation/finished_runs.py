"""Finished evaluations, read to be compared. They must have the same prompts, labels and classifiers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from response_generator.config import paths, strict_json, validation
from response_generator.config.schema import EvaluateArguments
from response_generator.config.scoring_schema import EvaluationScoringArguments
from response_generator.config.validation import validate_arguments
from response_generator.constants import ADAPTER, BEST_OF, BEST_OF_NAME
from response_generator.errors import InputError
from response_generator.evaluation import predictions_file
from response_generator.evaluation.comparison import RESERVED_NAMES
from response_generator.evaluation.predictions_file import PROMPT_FIELDS, Prediction, list_generated_fields, read_labels
from response_generator.evaluation.scores import list_scored_fields, list_scorers
from response_generator.labels import Labels
from response_generator.runs import run_folder
from response_generator.runs.environment import ENVIRONMENT_FILE, WEIGHTS
from response_generator.runs.short_names import shorten_paths

# What the scores depend on.
SCORING_KEYS = [key for key in EvaluationScoringArguments.model_fields if key != "batch_size"]
SECTIONS_OF_OTHER_PROGRAMS = {"dpo", "reward"}  # training and building have a section scoring, too


@dataclass(frozen=True)
class ComparedModel:
    """A model of `--compare`: one run folder, or several of one recipe with different random seeds.

    name: as it was given, or None. folders: as they were typed.
    """

    name: str | None
    folders: tuple[Path, ...]

    def describe(self) -> str:
        """The model with absolute paths, for args.json."""
        folders = ",".join(str(folder.absolute()) for folder in self.folders)
        return folders if self.name is None else f"{self.name}={folders}"


@dataclass(frozen=True)
class FinishedRuns:
    """The adapters' predictions by model, then the best of several ones where a model's runs have them, and the args of
    every run by its short name."""

    rows: dict[str, list[Prediction]]
    arguments: dict[str, dict[str, Any]]

    @property
    def first(self) -> dict[str, Any]:
        return next(iter(self.arguments.values()))

    @property
    def bootstrap_resamples(self) -> int:
        return self.first["bootstrap_resamples"]

    @property
    def seed(self) -> int:
        return self.first["seed"]

    @property
    def labels(self) -> Labels:
        return read_labels(self.first)

    def settings(self) -> dict[str, str]:
        """Args that the runs share as one value; for others, the value of each run."""
        flat = {name: run_folder.flatten(arguments) for name, arguments in self.arguments.items()}
        settings = {}
        for key in dict.fromkeys(key for values in flat.values() for key in values):
            values = {name: each.get(key, "–") for name, each in flat.items()}
            is_shared = len(set(values.values())) == 1
            by_run = "; ".join(f"{name}: {value}" for name, value in values.items())
            settings[key] = next(iter(values.values())) if is_shared else by_run
        return settings


def parse_model(text: str) -> ComparedModel:
    """Reads `RUN_FOLDER`, `RUN_FOLDER,RUN_FOLDER,…`, or the same after `NAME=`."""
    name, equals, folders = text.partition("=")
    if not equals or os.path.exists(text):  # Path.exists() fails with a name of more than 255 bytes
        name, folders = None, text
    if name and BEST_OF_NAME.fullmatch(name):
        raise InputError(f"--compare: {name}: only a row with the best replies may end so; take another name")
    if name in RESERVED_NAMES:
        name = f"./{name}"  # metrics.json uses it for something else
    try:
        return ComparedModel(name, tuple(Path(paths.expand_path(folder)) for folder in folders.split(",")))
    except ValueError as error:
        raise InputError(f"--compare: {text}: {error}") from error


def read_runs(models: list[ComparedModel]) -> FinishedRuns:
    """Reads the runs of two or more models.

    Raises:
        InputError: with everything that keeps them from being compared.
    """
    folders = [folder for model in models for folder in model.folders]
    given_names = [model.name for model in models if model.name]
    has_duplicates = len(set(given_names)) < len(given_names) or len(set(map(Path.resolve, folders))) < len(folders)
    if len(models) < 2 or has_duplicates:
        raise InputError("--compare: name two or more different run folders")
    errors = [message for folder in folders for message in find_run_errors(folder)]
    if errors:
        raise InputError(*errors)
    arguments = {str(folder): read_run_arguments(folder) for folder in folders}
    first, *others = arguments
    errors = [message for name in others for message in find_differing_labels(first, name, arguments)]
    if errors:
        raise InputError(*errors)
    found = {str(folder): read_adapter_predictions(folder, arguments[str(folder)]) for folder in folders}
    by_run = {run: rows.pop("") for run, rows in found.items()}
    for name in others:
        errors += find_differing_classifiers(first, name, arguments) + find_changed_classifiers(first, name, arguments)
        errors += find_differing_prompts(first, name, by_run)
    if errors:
        raise InputError(*errors)
    short = shorten_paths(folders, {*given_names, *RESERVED_NAMES})
    names = {model: model.name or ",".join(short[folder] for folder in model.folders) for model in models}
    rows = {name: join_runs([by_run[str(folder)] for folder in model.folders]) for model, name in names.items()}
    for model, name in names.items():
        first, *others = [found[str(folder)] for folder in model.folders]
        for best_of in first:
            if all(best_of in each for each in others):
                rows[name + best_of] = join_runs([each[best_of] for each in (first, *others)])
    return FinishedRuns(rows, {short[folder]: arguments[str(folder)] for folder in folders})


def join_runs(runs: list[list[Prediction]]) -> list[Prediction]:
    """The rows of all runs of a recipe in the order of prompts; each names its run if there are several."""
    if len(runs) == 1:
        return runs[0]
    rows = [row | {"run": number} for number, run in enumerate(runs) for row in run]
    return sorted(rows, key=lambda row: (row["index"], row["run"]))


def read_run_arguments(folder: Path) -> dict[str, Any]:
    """Its args.json, with the defaults of keys that an earlier version of this program did not write."""
    return validation.add_defaults(EvaluateArguments, strict_json.read_object(folder / "args.json"))


def read_predictions_by_model(folder: Path, arguments: dict[str, Any]) -> dict[str, list[Prediction]]:
    """The rows of each model of a run, with what its classifiers say of them."""
    labels, in_file = read_labels(arguments), strict_json.read_object(folder / "args.json")["scoring"]
    # Not what an earlier version of this program did not know.
    scorers = [key for key in list_scorers(EvaluationScoringArguments(**in_file), labels) if key in in_file]
    fields = list_generated_fields(labels) | list_scored_fields(scorers)
    rows = predictions_file.read_predictions(folder, fields, labels)
    return predictions_file.group_by_model(rows, labels)


def read_adapter_predictions(folder: Path, arguments: dict[str, Any]) -> dict[str, list[Prediction]]:
    """The replies of the adapter under "", and the best of several ones under " best of 6"."""
    by_model = read_predictions_by_model(folder, arguments)
    if ADAPTER not in by_model:
        raise InputError(f"--compare: {folder}: holds predictions of {', '.join(by_model)}; needed: of {ADAPTER!r}")
    return {
        model.removeprefix(ADAPTER): rows for model, rows in by_model.items() if model.partition(BEST_OF)[0] == ADAPTER
    }


def find_run_errors(folder: Path) -> list[str]:
    if not (folder / "args.json").is_file():
        return [f"--compare: {folder}: no run folder (no args.json)"]
    if not (folder / "metrics.json").is_file():
        return [f"--compare: {folder}: is not finished (no metrics.json); run it to its end first"]
    values = strict_json.read_object(folder / "args.json")
    if "scoring" not in values or SECTIONS_OF_OTHER_PROGRAMS & set(values):
        return [f"--compare: {folder}: is not an evaluation of an adapter"]
    values.pop("from_predictions", None)
    try:
        validate_arguments(EvaluateArguments, values, str(folder / "args.json"))
    except InputError as error:
        return [f"--compare: {message}" for message in error.messages]
    return []


def find_differing_labels(first: str, name: str, arguments: dict[str, dict[str, Any]]) -> list[str]:
    one, other = (read_labels(arguments[run]) for run in (first, name))
    if one == other:
        return []
    return [f"--compare: {name}: labels: {other.describe()}, in {first}: {one.describe()}; the labels must be the same"]


def find_differing_classifiers(first: str, name: str, arguments: dict[str, dict[str, Any]]) -> list[str]:
    one, other = (
        {key: "null" if value is None else value for key, value in arguments[run]["scoring"].items()}
        for run in (first, name)
    )
    return [
        f"--compare: {name}: scoring.{key} is {other[key]}, in {first} {one[key]}; score both with the same "
        f"classifiers first (--json_file … --from_predictions {name})"
        for key in SCORING_KEYS
        if one[key] != other[key]
    ]


def find_changed_classifiers(first: str, name: str, arguments: dict[str, dict[str, Any]]) -> list[str]:
    """Classifiers of the same name whose weights were others when the second run was scored."""
    one, other = (run_folder.read_json(Path(run) / ENVIRONMENT_FILE).get(WEIGHTS, {}) for run in (first, name))
    errors = []
    for key in SCORING_KEYS:
        model, of_first = arguments[name]["scoring"][key], arguments[first]["scoring"][key]
        weights, weights_of_first = other.get(f"scoring.{key}"), one.get(f"scoring.{key}")
        if model == of_first and weights and weights_of_first and weights != weights_of_first:
            errors.append(
                f"--compare: {name}: scoring.{key} {model} had other weights than in {first}; score both with the same "
                f"classifiers first (--json_file … --from_predictions {name} --set output_dir=FOLDER)"
            )
    return errors


def find_differing_prompts(first: str, name: str, rows: dict[str, list[Prediction]]) -> list[str]:
    """Compares dialogues, not rendered prompts: each run may have a chat template of its own."""
    targets_of_first, targets = (
        "gold" if all(map(predictions_file.has_gold_target, rows[run])) else "all" for run in (first, name)
    )
    if targets != targets_of_first:
        return [
            f"--compare: {name}: has replies with dataset.target_emotions {targets!r}, {first} with "
            f"{targets_of_first!r}; evaluate both with the same"
        ]
    one, other = (
        {
            (row["index"], row.get("target_emotion"), row["sample"]): [row.get(field) for field in PROMPT_FIELDS]
            for row in rows[run]
        }
        for run in (first, name)
    )
    if len(one) != len(other):
        return [f"--compare: {name}: {len(other)} replies, in {first} {len(one)}; the prompts must be the same"]
    different = [place for place in one if one[place] != other.get(place)]
    if not different:
        return []
    return [f"--compare: {name}: row {different[0][0]} ({len(different)} in all) has another prompt than in {first}"]


def check_output_folder(run: run_folder.RunFolder) -> None:
    """The folder must be new, or hold the same comparison.

    Raises:
        InputError: when the folder holds something else, or cannot be written.
    """
    errors = run.find_errors()
    if errors:
        raise InputError(*(text.replace("name another folder", "name another with --output_dir") for text in errors))
