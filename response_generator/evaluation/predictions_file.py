"""The rows of predictions.jsonl: one a model, prompt and sample. Read without any model, and checked."""

import sys
from pathlib import Path
from typing import Any

from response_generator.constants import EMOTIONS
from response_generator.data.datasets import BadRow, checked_messages
from response_generator.errors import InputError, refuse_rows
from response_generator.runs import json_lines
from response_generator.runs.run_folder import PREDICTIONS

FILE = PREDICTIONS
ADAPTER, BASELINE = "adapter", "baseline"  # the two models of a run
GENERATED_FIELDS = {
    "index": int,
    "sample": int,
    "model": str,
    "prompt": str,
    "history": list,
    "target_emotion": str,
    "reference": str,
    "response": str,
    "new_tokens": int,
    "stopped_by_limit": bool,
    "reference_tokens": int,
    "reference_logp": float,
}
SCORED_FIELDS = {
    "predicted_emotion": str,
    "emotion_score": float,
    "target_probability": float,
    "gibberish_label": str,
    "gibberish_score": float,
    "complete": bool,
    "reference_emotion": str,
    "reference_gibberish": str,
}
EMOTION_FIELDS = ("target_emotion", "predicted_emotion", "reference_emotion")
OF_THE_PROMPT = ("history", "target_emotion", "reference")
LARGEST_NUMBER = sys.float_info.max

Prediction = dict[str, Any]


def by_model(rows: list[Prediction]) -> dict[str, list[Prediction]]:
    """Rows of each model, in the order of prompts and samples; models in the order of their first rows."""
    found: dict[str, list[Prediction]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return {model: sorted(of, key=lambda row: (row["index"], row["sample"])) for model, of in found.items()}


def as_table(rows: list[Prediction]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells for a tracker; the history, which is no plain value, stands in the prompt."""
    columns = [name for name in rows[0] if name != "history"]
    return columns, [[row[name] for name in columns] for row in rows]


def read(place: Path, fields: dict[str, type]) -> list[Prediction]:
    """The rows of a predictions.jsonl, or of the one in a run folder: the same prompts, answered by every model.

    Args:
        fields: what every row must hold: GENERATED_FIELDS, or GENERATED_FIELDS | SCORED_FIELDS.

    Raises:
        InputError: with the lines that are no such rows, or the prompts that a model has not answered.
    """
    file = place / FILE if place.is_dir() else place
    if not file.is_file():
        raise InputError(f"{place}: no such file, and no run folder with a {FILE}")
    rows = json_lines.read_jsonl(file)
    if not rows:
        raise InputError(f"{file}: holds no rows")
    faults = [
        f"{file}, line {line}: {fault}" for line, row in enumerate(rows, 1) if (fault := invalid_reason(row, fields))
    ]
    refuse_rows(str(file), faults, "lines")
    check_prompts(file, rows)
    return rows


def invalid_reason(row: Prediction, fields: dict[str, type]) -> str | None:
    """What keeps a row from being one of predictions.jsonl."""
    absent = [name for name in fields if name not in row]
    if absent:
        return f"has no {', '.join(absent)}; needed: a file that evaluate.py of this version has written"
    for name, kind in fields.items():
        value = row[name]
        fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if not fits:
            return f"{name} is {value!r}; needed: {kind.__name__}"
        if kind in (int, float) and not abs(value) <= LARGEST_NUMBER:  # NaN is not, nor an integer of 400 digits
            return f"{name} is {value!r:.40}; allowed: numbers up to {LARGEST_NUMBER:.1e}"
        if name in EMOTION_FIELDS and value not in EMOTIONS:
            return f"{name} is {value!r}; allowed: {', '.join(EMOTIONS)}"
    try:
        checked_messages(row["history"], "history", strings=False)
    except BadRow as fault:
        return str(fault)
    return None


def check_prompts(file: Path, rows: list[Prediction]) -> None:
    """Raises InputError unless every model has answered the same prompts, each equally often, and once a sample."""
    answered: dict[str, set] = {}
    prompts: dict[int, tuple] = {}
    for line, row in enumerate(rows, 1):
        answered.setdefault(row["model"], set()).add((row["index"], row["sample"]))
        asked = tuple(row[name] for name in OF_THE_PROMPT)
        if prompts.setdefault(row["index"], asked) != asked:
            raise InputError(f"{file}, line {line}: row {row['index']} is another prompt there than above")
    everything = set.union(*answered.values())
    for model, places in answered.items():
        if places != everything:
            index, sample = min(everything - places)
            raise InputError(
                f"{file}: {model} has not answered row {index}, sample {sample} ({len(everything - places)} missing "
                f"in all): no finished run has left this file as it is"
            )
    if len(everything) * len(answered) != len(rows):
        raise InputError(f"{file}: holds a reply of one model to one prompt and sample twice; remove one")
    if len(prompts) * len({sample for _, sample in everything}) != len(everything):
        raise InputError(f"{file}: its prompts have different numbers of replies; the run has not come to its end")
