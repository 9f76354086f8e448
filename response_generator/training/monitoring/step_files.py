"""Files of a training run that grow with its steps: log, warnings and sample replies. Each line is a JSON object with
its `step`."""

from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.runs import json_lines

LOG_FILE = "log.jsonl"
WARNINGS_FILE = "warnings.jsonl"
SAMPLES_FILE = "samples.jsonl"
FIELDS = {  # that a row of each file needs to be shown
    LOG_FILE: ("step", "seconds"),
    WARNINGS_FILE: ("step", "check", "message"),
    SAMPLES_FILE: ("step", "index", "prompt", "target_emotion", "model", "response", "new_tokens"),
}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file; empty where there is no file. Lines that are no such rows are named and left out: a killed
    process may have cut one off."""
    rows = []
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        row = parse_row(line, FIELDS[file.name])
        if row is None:
            print(f"{file}, line {number}: is no row of this file ({', '.join(FIELDS[file.name])}); left out")
        else:
            rows.append(row)
    return rows


def parse_row(line: str, fields: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        row = strict_json.parse_json(line, allow_nan=True)
    except strict_json.JSONError:
        return None
    is_row = isinstance(row, dict) and all(name in row for name in fields) and isinstance(row["step"], int)
    return row if is_row else None


def drop_later_rows(file: Path, step: int) -> list[dict[str, Any]]:
    """Keeps only the rows up to the step from which training continues, and returns them. Training that starts anew,
    from step 0, keeps none."""
    kept = [row for row in read_rows(file) if row["step"] <= step] if step else []
    if file.exists():
        json_lines.write_jsonl(file, kept)
    return kept


def to_log_row(entry: dict[str, Any]) -> dict[str, Any]:
    """A row of the log from an entry of transformers' history, which `callbacks.LogFile` has given its seconds."""
    return {"step": entry["step"], "seconds": entry["seconds"]} | entry


def restore_log(file: Path, history: list[dict[str, Any]]) -> None:
    """Completes the log up to a checkpoint from the history in it: the file may have lost its last lines.

    A history of an earlier version of this program has no seconds; then the file stays as it is.
    """
    expected = [to_log_row(entry) for entry in history if "seconds" in entry]
    if expected and expected != read_rows(file)[: len(expected)]:
        print(f"{file}: has lost lines; completed from the checkpoint")
        json_lines.write_jsonl(file, expected)
