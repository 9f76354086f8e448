"""The files that raters save: one of each rater, all of one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from response_generator.blind_test.sheet import Question, Sheet
from response_generator.config import strict_json
from response_generator.errors import InputError, raise_row_errors

Answer = dict[str, str]  # by question; what was not answered is not in it


@dataclass(frozen=True)
class RaterAnswers:
    """The answers of one rater, one for each pair of the sheet and in its order."""

    rater: str
    answers: list[Answer]

    def count_complete(self, questions: Sequence[Question]) -> int:
        return sum(all(each.name in answer for each in questions) for answer in self.answers)


def read_answers(files: Sequence[Path], sheet: Sheet) -> list[RaterAnswers]:
    """Reads the answers of all raters.

    Raises:
        InputError: with all files that are damaged, of another sheet or empty, and raters that are named twice.
    """
    found: dict[str, Path] = {}
    raters, errors = [], []
    for file in files:
        try:
            saved = read_file(file, sheet)
        except InputError as error:
            errors += error.messages
            continue
        name = saved.rater.casefold()
        if name in found:
            errors.append(f"{file}: rater is {saved.rater!r}, as in {found[name]}; name one file of each rater")
        found.setdefault(name, file)
        raters.append(saved)
    if errors:
        raise InputError(*errors)
    return raters


def read_file(file: Path, sheet: Sheet) -> RaterAnswers:
    saved = strict_json.read_object(file)
    if saved.get("sheet") != sheet.id:
        raise InputError(
            f"{file}: sheet is {saved.get('sheet')!r:.60}; needed: {sheet.id!r}, that of key.json; name the folder of "
            f"the other sheet with --output_dir"
        )
    rater, answers = saved.get("rater"), saved.get("answers")
    if not isinstance(rater, str) or not rater.strip():
        raise InputError(f"{file}: rater is {rater!r}; needed: a name")
    if not isinstance(answers, list) or len(answers) != len(sheet.pairs):
        raise InputError(f"{file}: answers has not one entry for each of the {len(sheet.pairs)} pairs; save it again")
    errors = [
        f"{file}: answers, pair {number}: {message}"
        for number, answer in enumerate(answers, 1)
        if (message := find_answer_error(answer, sheet.questions))
    ]
    raise_row_errors(str(file), errors, "pairs")
    if not any(answers):
        raise InputError(f"{file}: holds no answers; answer the page first, or leave this file out")
    return RaterAnswers(rater.strip(), answers)


def find_answer_error(answer: Any, questions: Sequence[Question]) -> str | None:
    if not isinstance(answer, dict):
        return f"is {answer!r:.60}; needed: an object of answers"
    options = {question.name: question.options for question in questions}
    for name, given in answer.items():
        if name not in options:
            return f"{name!r:.60} is no question; allowed: {', '.join(options)}"
        if given not in options[name]:
            return f"{name} is {given!r:.60}; allowed: {', '.join(options[name])}"
    return None
