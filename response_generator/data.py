"""Dialogues and preference pairs, read from a file or the hub and checked row by row, before any model is loaded."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from response_generator.arguments import DatasetArguments
from response_generator.emotions import EMOTIONS
from response_generator.errors import InputError, refuse_rows
from response_generator.sources import is_local

MARKED = re.compile(r"\s*\[EMOTION\]\s*(?P<emotion>.*?)\s*\[/EMOTION\]\s*(?P<dialog>.*)", re.DOTALL)

# A message's content is {"emotion", "dialog"} or, in preference data, a plain string.
Content = dict[str, str] | str
Message = dict[str, Any]  # {"role": "user" | "assistant", "content": Content}


@dataclass(frozen=True)
class Dialogue:
    """A row of evaluation: the model answers `history` with `target_emotion`; a person once wrote `reference`."""

    index: int
    history: list[Message]
    target_emotion: str
    reference: str


@dataclass(frozen=True)
class Pair:
    """A row of training. `prompt` is rendered text or a list of messages; then the completions are contents.

    The scores describe the data set; they never reach the trainer.
    """

    index: int
    prompt: str | list[Message]
    chosen: Content
    rejected: Content
    chosen_score: float | None
    rejected_score: float | None


class BadRow(ValueError):
    """Why one row cannot be used."""


def read_dialogues(dataset: DatasetArguments) -> list[Dialogue]:
    """Reads evaluation rows; see `Dialogue`. Raises InputError with the faults of the first bad rows."""
    return parsed(dataset, parse_dialogue, columns={"prompt"})


def read_pairs(dataset: DatasetArguments) -> list[Pair]:
    """Reads preference rows; see `Pair`. Raises InputError with the faults of the first bad rows."""
    return parsed(dataset, parse_pair, columns={"prompt", "chosen", "rejected"})


def parsed(dataset: DatasetArguments, parse: Callable[[int, dict], Any], columns: set[str]) -> list[Any]:
    rows, faults = [], []
    for index, (place, row) in enumerate(read_rows(dataset)):
        try:
            if not isinstance(row, dict):
                raise BadRow(f"is {kind(row)}; needed: an object with {', '.join(sorted(columns))}")
            absent = sorted(columns - {key for key, value in row.items() if value is not None})
            if absent:
                raise BadRow(f"has no {', '.join(absent)}; its columns: {', '.join(row) or 'none'}")
            rows.append(parse(index, row))
        except BadRow as fault:
            faults.append(f"{place} {fault}")
    refuse_rows(dataset.path, faults)
    if not rows:
        raise InputError(f"{dataset.path} (split {dataset.split}): holds no rows")
    return rows


def parse_dialogue(index: int, row: dict) -> Dialogue:
    turns = checked_messages(row["prompt"], "prompt", strings=False)
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise BadRow(f"ends with {turns[-1]['role']} (turn {len(turns)}); the last turn must be the assistant's")
    last = turns[-1]["content"]
    return Dialogue(index, turns[:-1], last["emotion"], last["dialog"])


def parse_pair(index: int, row: dict) -> Pair:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if isinstance(prompt, str):
        for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
            if not isinstance(text, str) or not text.strip():
                raise BadRow(f"{name} is {kind(text)}; the prompt is text, so needed: text")
    else:
        prompt = checked_messages(prompt, "prompt", strings=True)
        if prompt[-1]["role"] != "user":
            raise BadRow(f"prompt ends with {prompt[-1]['role']}; its last turn must be the user's")
        chosen, rejected = completion(chosen, "chosen"), completion(rejected, "rejected")
    return Pair(index, prompt, chosen, rejected, score(row, "chosen_score"), score(row, "rejected_score"))


def completion(messages: Any, name: str) -> Content:
    if not isinstance(messages, list) or len(messages) != 1:
        raise BadRow(f"{name} is {kind(messages)}; needed: a list of one assistant message")
    message = messages[0]
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise BadRow(f"{name} is not an assistant message")
    return checked_content(message.get("content"), name, strings=True)


def score(row: dict, name: str) -> float | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise BadRow(f"{name} is {kind(value)}; needed: a number, or leave it out")
    return value


def checked_messages(messages: Any, name: str, strings: bool) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        raise BadRow(f"{name} is {kind(messages)}; needed: a list of turns")
    turns = []
    for number, message in enumerate(messages):
        place = f"{name}, turn {number + 1}"
        expected = "assistant" if number % 2 else "user"
        role = message.get("role") if isinstance(message, dict) else None
        if role != expected:
            raise BadRow(f"{place}: role is {role!r}; needed {expected!r}: roles alternate from user")
        turns.append({"role": role, "content": checked_content(message.get("content"), place, strings)})
    return turns


def checked_content(content: Any, place: str, strings: bool) -> Content:
    if strings and isinstance(content, str) and content.strip():
        marked = MARKED.fullmatch(content)
        if not marked:
            return content
        # A completion's mark belongs to the prompt: the model writes only the words.
        content = marked.groupdict()
    if not isinstance(content, dict) or not {"emotion", "dialog"} <= set(content):
        raise BadRow(f"{place}: content is {kind(content)}; needed: an object with emotion and dialog")
    emotion, dialog = content["emotion"], content["dialog"]
    if emotion not in EMOTIONS:
        raise BadRow(f"{place}: emotion is {emotion!r}; allowed: {', '.join(EMOTIONS)}")
    if not isinstance(dialog, str) or not dialog.strip():
        raise BadRow(f"{place}: dialog is {kind(dialog)}; needed: text")
    return {"emotion": emotion, "dialog": dialog}


def kind(value: Any) -> str:
    if value in ("", [], {}):
        return "empty"
    return {list: "a list", dict: "an object", str: "text", type(None): "null"}.get(type(value), repr(value)[:40])


def read_rows(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    """Yields the first `limit` rows with the place to name in an error: file and line, or row number."""
    for number, row in enumerate(read_local(dataset) if is_local(dataset.path) else read_hub(dataset)):
        if number == dataset.limit:
            return
        yield row


def read_local(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    file = Path(dataset.path)
    if file.is_dir():
        files = [path for ending in (".jsonl", ".json", ".parquet") for path in file.glob(dataset.split + ending)]
        if not files:
            raise InputError(f"dataset: {file}: holds no {dataset.split}.jsonl, .json or .parquet")
        file = files[0]
    try:
        yield from read_file(file)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start}); convert it") from error


def read_file(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".parquet":
        yield from read_parquet(file)
    elif file.suffix == ".jsonl":
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}, line {number}:", parse_json(line, f"{file}, line {number}")
    else:
        rows = parse_json(file.read_text(encoding="utf-8"), str(file))
        if not isinstance(rows, list):
            raise InputError(f"{file}: holds {kind(rows)}; needed: a list of rows")
        yield from ((f"{file}, row {number}:", row) for number, row in enumerate(rows))


def parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise InputError(f"{place}: broken JSON at {at}: {error.msg}") from error


def read_parquet(file: Path) -> Iterator[tuple[str, Any]]:
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.ParquetFile(file)
    except ArrowInvalid as error:
        raise InputError(f"{file}: cannot be read as parquet ({error})") from error
    number = 0
    for batch in table.iter_batches():
        for row in batch.to_pylist():
            yield f"{file}, row {number}:", row
            number += 1


def read_hub(dataset: DatasetArguments) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(
            dataset.path,
            dataset.name,
            split=dataset.split,
            revision=dataset.revision,
            num_proc=dataset.num_proc,
        )
    except (DatasetsError, ValueError, OSError, RuntimeError) as error:  # RuntimeError: a data set that is a script
        raise InputError(f"dataset.path: {dataset.path}: {error}") from error
    for number, row in enumerate(rows):
        yield f"{dataset.path}, row {number}:", row
