"""Finished evaluations, read to be compared: only runs of the same prompts and the same judges can be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import EvaluateArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError
from response_generator.evaluation import predictions_file as predictions
from response_generator.evaluation.comparison import GROUPS
from response_generator.evaluation.predictions_file import ADAPTER, GENERATED_FIELDS, SCORED_FIELDS, Prediction
from response_generator.runs import run_folder

JUDGES = ("emotion_model", "emotion_labels", "gibberish_model", "clean_up_tokenization_spaces")


@dataclass(frozen=True)
class FinishedRuns:
    """The adapter's replies and the arguments of every run, by its folder as it was named."""

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

    def settings(self) -> dict[str, str]:
        """What the runs have in common, and side by side what they have not."""
        flat = {name: run_folder.flat(arguments) for name, arguments in self.arguments.items()}
        keys = dict.fromkeys(key for of in flat.values() for key in of)
        settings = {}
        for key in keys:
            values = {name: of.get(key, "–") for name, of in flat.items()}
            different = len(set(values.values())) > 1
            words = "; ".join(f"{name}: {value}" for name, value in values.items())
            settings[key] = words if different else next(iter(values.values()))
        return settings


def read(folders: list[Path]) -> FinishedRuns:
    """Reads two or more runs.

    Raises:
        InputError: with everything that keeps them from being compared.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("--compare: name two or more different run folders")
    faults = [fault for folder in folders for fault in faults_of(folder)]
    if faults:
        raise InputError(*faults)
    arguments = {name_of(folder): strict_json.read_object(folder / "args.json") for folder in folders}
    rows = {name_of(folder): replies_in(folder) for folder in folders}
    first, *others = rows
    for name in others:
        faults += differing_judges(first, name, arguments) + differing_prompts(first, name, rows)
    if faults:
        raise InputError(*faults)
    return FinishedRuns(rows, arguments)


def name_of(folder: Path) -> str:
    """The folder as it was typed; one called like a group of metrics.json gets its dot."""
    return f"./{folder}" if str(folder) in GROUPS else str(folder)


def replies_in(folder: Path) -> list[Prediction]:
    found = predictions.by_model(predictions.read(folder, GENERATED_FIELDS | SCORED_FIELDS))
    if ADAPTER not in found:
        raise InputError(f"--compare: {folder}: holds replies of {', '.join(found)}; needed: of {ADAPTER!r}")
    return found[ADAPTER]


def faults_of(folder: Path) -> list[str]:
    if not (folder / "args.json").is_file():
        return [f"--compare: {folder}: no run folder (no args.json)"]
    if not (folder / "metrics.json").is_file():
        return [f"--compare: {folder}: is not finished (no metrics.json); run it to its end first"]
    values = strict_json.read_object(folder / "args.json")
    if "scoring" not in values:
        return [f"--compare: {folder}: is no evaluation of an adapter"]
    values.pop("from_predictions", None)
    try:
        validate_arguments(EvaluateArguments, values, str(folder / "args.json"))
    except InputError as error:
        return [f"--compare: {fault}" for fault in error.faults]
    return []


def differing_judges(first: str, name: str, arguments: dict[str, dict[str, Any]]) -> list[str]:
    one, other = (arguments[run]["scoring"] for run in (first, name))
    return [
        f"--compare: {name}: scoring.{key} is {other[key]}, in {first} {one[key]}; have both judged by the same "
        f"classifiers first (--json_file … --from_predictions {name})"
        for key in JUDGES
        if one.get(key) != other.get(key)
    ]


def differing_prompts(first: str, name: str, rows: dict[str, list[Prediction]]) -> list[str]:
    """Prompts are the same when their dialogues are: how they are rendered is each model's own."""
    one, other = (
        {(row["index"], row["sample"]): (row["history"], row["target_emotion"], row["reference"]) for row in rows[run]}
        for run in (first, name)
    )
    if len(one) != len(other):
        return [f"--compare: {name}: {len(other)} replies, in {first} {len(one)}; the prompts must be the same"]
    different = [place for place in one if one[place] != other.get(place)]
    if not different:
        return []
    return [f"--compare: {name}: row {different[0][0]} ({len(different)} in all) is another prompt than in {first}"]


def check_place(run: run_folder.RunFolder) -> None:
    """A comparison may be made anew in its own folder, and takes no other.

    Raises:
        InputError: when the folder holds something else, or cannot be written.
    """
    faults = run.faults()
    if faults:
        raise InputError(*(fault.replace("name another folder", "name another with --output_dir") for fault in faults))
