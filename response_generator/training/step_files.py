"""Files of a training run that grow with its steps: log, warnings and sample replies. Each line is a JSON object with
its `step`."""

import json
from pathlib import Path
from typing import Any

from response_generator.runs import json_lines

LOG_FILE = "log.jsonl"
WARNINGS_FILE = "warnings.jsonl"
SAMPLES_FILE = "samples.jsonl"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, up to a line that was cut off; empty where there is no file."""
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def drop_later_rows(file: Path, step: int) -> list[dict[str, Any]]:
    """Keeps only the rows up to the step from which training continues, and returns them. Training that starts anew,
    from step 0, keeps none."""
    kept = [row for row in read_rows(file) if row["step"] <= step] if step else []
    if file.exists():
        json_lines.write_jsonl(file, kept)
    return kept
