"""Reading and checking predictions.jsonl: one row per model, prompt, target and sample. No model is needed."""

import sys
from pathlib import Path
from typing import Any

from response_generator.config.schema import LabelArguments
from response_generator.config.validation import validate_arguments
from response_generator.constants import PREDICTIONS_FILE
from response_generator.data.datasets import BadRow, check_messages
from response_generator.errors import InputError, raise_row_errors
from response_generator.labels import Labels
from response_generator.runs import json_lines

GOLD_LOGP = "gold_logp"  # left out where the server that wrote the replies tells no log-probabilities
GENERATED_FIELDS = {
    "index": int,
    "sample": int,
    "model": str,
    "prompt": str,
    "history": list,
    "target_emotion": str,
    "gold_target": str,
    "gold_response": str,
    "response": str,
    "new_tokens": int,
    "hit_max_new_tokens": bool,
    "gold_tokens": int,
    GOLD_LOGP: float,
}
TARGET_FIELDS = ("target_emotion", "gold_target")
EMOTION_FIELDS = (*TARGET_FIELDS, "predicted_emotion", "gold_emotion", "second_emotion", "gold_second_emotion")
PROMPT_FIELDS = ("history", "gold_target", "gold_response")
EMOTION_LIST = "emotion_at_words"  # of the reply's first word, of its first two, …, of the whole reply
MAX_FLOAT = sys.float_info.max

Prediction = dict[str, Any]


def list_generated_fields(labels: Labels) -> dict[str, type]:
    """Without labels there is no target emotion."""
    return {name: kind for name, kind in GENERATED_FIELDS.items() if labels or name not in TARGET_FIELDS}


def group_by_model(rows: list[Prediction], labels: Labels) -> dict[str, list[Prediction]]:
    """Rows of each model, in the order of prompts, targets and samples; models in the order of their first rows."""
    found: dict[str, list[Prediction]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)

    def get_place(row: Prediction) -> tuple[int, int, int]:
        return row["index"], labels.names.index(row["target_emotion"]) if labels else 0, row["sample"]

    return {model: sorted(each, key=get_place) for model, each in found.items()}


def has_gold_target(row: Prediction) -> bool:
    """Whether the reply's target is the label of the gold reply, so that the two can be compared; without labels, of
    every reply."""
    return row.get("target_emotion") == row.get("gold_target")


def add_gold_target(row: Prediction) -> Prediction:
    """The row as it would be written now: before there was `gold_target`, the target was always that."""
    return {"gold_target": row["target_emotion"]} | row if "target_emotion" in row else row


def group_by_run(rows: list[Prediction]) -> list[list[Prediction]]:
    """The rows of one model by the training run that they name; one group where they name none."""
    found: dict[int, list[Prediction]] = {}
    for row in rows:
        found.setdefault(row.get("run", 0), []).append(row)
    return list(found.values())


def to_tracker_table(rows: list[Prediction]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells for wandb, without lists: `history` is already part of `prompt`."""
    columns = [name for name, value in rows[0].items() if not isinstance(value, list)]
    return columns, [[row[name] for name in columns] for row in rows]


def read_predictions(place: Path, fields: dict[str, type], labels: Labels) -> list[Prediction]:
    """The rows of a predictions.jsonl, given by its path or by its run folder.

    Args:
        fields: what every row must hold: those of `list_generated_fields`, and perhaps of `scores.list_scored_fields`.
        labels: the emotions that a row may name.

    Raises:
        InputError: with the lines that are no such rows, or the prompts that a model has no reply to.
    """
    file = place / PREDICTIONS_FILE if place.is_dir() else place
    if not file.is_file():
        raise InputError(f"{place}: no such file, and no run folder with a {PREDICTIONS_FILE}")
    rows = [add_gold_target(row) for row in json_lines.read_jsonl(file)]
    if not rows:
        raise InputError(f"{file}: holds no rows")
    errors = [
        f"{file}, line {line}: {message}"
        for line, row in enumerate(rows, 1)
        if (message := find_row_error(row, fields, labels))
    ]
    raise_row_errors(str(file), errors, "lines")
    without = sum(GOLD_LOGP not in row for row in rows)
    if 0 < without < len(rows):
        raise InputError(f"{file}: {without} of {len(rows)} rows have no {GOLD_LOGP}; needed: in all rows, or in none")
    check_same_prompts(file, rows)
    check_targets(file, rows, labels)
    return rows


def find_row_error(row: Prediction, fields: dict[str, type], labels: Labels) -> str | None:
    """Why a row is not one of predictions.jsonl; None when it is."""
    absent = [name for name in fields if name not in row and name != GOLD_LOGP]
    if absent:
        remedy = "" if GENERATED_FIELDS.keys() & set(absent) else "; score that run again with --from_predictions"
        return f"has no {', '.join(absent)}; needed: a file written by evaluate.py{remedy}"
    if not labels and "target_emotion" in row:
        return f"has the target_emotion {row['target_emotion']!r:.40}, but labels is []; name the labels"
    for name, needed in fields.items():
        if name not in row:
            continue
        value = row[name]
        allowed = (int, float) if needed is float else needed
        if not isinstance(value, allowed) or isinstance(value, bool) != (needed is bool):
            return f"{name} is {value!r}; needed: {needed.__name__}"
        if needed in (int, float) and not abs(value) <= MAX_FLOAT:  # NaN, or an integer of 400 digits
            return f"{name} is {value!r:.40}; allowed: numbers up to {MAX_FLOAT:.1e}"
        emotions = value if name == EMOTION_LIST else [value] if name in EMOTION_FIELDS else None
        if emotions is not None and not (emotions and all(each in labels.names for each in emotions)):
            return f"{name} is {value!r:.400}; allowed: {', '.join(labels.names)}"
    if row["gold_tokens"] < 1:
        return f"gold_tokens is {row['gold_tokens']}; allowed: numbers from 1, because the EOS is one of them"
    try:
        check_messages(row["history"], "history", labels, strings=False)
    except BadRow as error:
        return str(error)
    return None


def check_same_prompts(file: Path, rows: list[Prediction]) -> None:
    """Checks that every model has the same prompts and targets, and the same number of replies to each.

    Raises:
        InputError: when this is not so.
    """
    found: dict[str, set] = {}
    prompts: dict[int, tuple] = {}
    for line, row in enumerate(rows, 1):
        found.setdefault(row["model"], set()).add((row["index"], row.get("target_emotion"), row["sample"]))
        prompt = tuple(row.get(name) for name in PROMPT_FIELDS)
        if prompts.setdefault(row["index"], prompt) != prompt:
            raise InputError(f"{file}, line {line}: row {row['index']} has another prompt here than in a line above")
    everything = set.union(*found.values())
    for model, places in found.items():
        if places != everything:
            index, target, sample = min(everything - places)
            of_target = "" if target is None else f", target {target}"
            raise InputError(
                f"{file}: {model} has no reply to row {index}{of_target}, sample {sample} ({len(everything - places)} "
                f"missing in all); a finished run leaves no such file: evaluate again"
            )
    if len(everything) * len(found) != len(rows):
        raise InputError(f"{file}: holds two replies of one model to one prompt, target and sample; remove one")
    asked, samples = {place[:2] for place in everything}, {place[2] for place in everything}
    if len(asked) * len(samples) != len(everything):
        raise InputError(f"{file}: its prompts have different numbers of replies; the run is not finished")


def check_targets(file: Path, rows: list[Prediction], labels: Labels) -> None:
    """Checks that each dialogue is asked for the label of its gold reply, or each for all labels.

    Raises:
        InputError: when this is not so.
    """
    found: dict[int, set[str]] = {}
    for row in rows:
        found.setdefault(row["index"], set()).add(row.get("target_emotion"))
    if all(map(has_gold_target, rows)):
        return
    for index, targets in found.items():
        if targets != set(labels.names):
            raise InputError(
                f"{file}: row {index} has replies with the targets {', '.join(sorted(targets))}; needed: in all rows "
                f"the gold_target, or everywhere all of {', '.join(labels.names)}"
            )


def read_labels(arguments: dict[str, Any]) -> Labels:
    """The labels of a run, from its args.json; before there was the key, they were the seven emotions.

    Raises:
        InputError: when they cannot be read.
    """
    values = {key: arguments[key] for key in LabelArguments.model_fields if key in arguments}
    return validate_arguments(LabelArguments, values, "args.json").label_set
