"""The two files of a sheet: the page for the raters, and the key, which stays with whoever asks them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from response_generator.blind_test.compared_replies import read_replies
from response_generator.blind_test.sheet import Sheet, SheetPair
from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.reporting import page
from response_generator.runs import atomic_files
from response_generator.runs.writable_folder import find_writing_errors

PAGE_FILE, KEY_FILE = "blind_test.html", "key.json"
KEY_FIELDS = {"sheet": str, "models": list, "seed": int, "pairs": list}
FOLDER = Path(__file__).parent / "page"


def write_sheet(sheet: Sheet, folder: Path) -> None:
    """Writes page and key.

    Raises:
        InputError: when the folder holds another sheet, whose answers would have no key any more.
    """
    if errors := find_writing_errors(folder):
        raise InputError(*errors)
    if (folder / KEY_FILE).exists() and (other := read_key(folder)["sheet"]) != sheet.id:
        raise InputError(
            f"{folder}: holds sheet {other}, whose answers need its {KEY_FILE}; name another folder with --output_dir, "
            f"or remove this one if nobody has begun to answer"
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic_files.atomic_write(folder / KEY_FILE, json.dumps(sheet.to_key(), indent=1, ensure_ascii=False).encode())
    content = {"id": sheet.id, "questions": [asdict(each) for each in sheet.questions]}
    page.fill_template(
        FOLDER / "blind_test.html.jinja",
        folder / PAGE_FILE,
        sheet=content | {"pairs": sheet.list_shown_pairs()},
        noun=sheet.replies.labels.noun if sheet.replies.labels else None,
        styles=[read_file(page.STYLE_FILE), read_file(FOLDER / "blind_test.css")],
        scripts=[read_file(page.BROWSER_FILE), read_file(FOLDER / "blind_test.js")],
    )


def read_file(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def read_key(folder: Path) -> dict[str, Any]:
    """Reads key.json.

    Raises:
        InputError: when there is none, or it is none.
    """
    file = folder / KEY_FILE
    if not file.is_file():
        raise InputError(f"{folder}: holds no {KEY_FILE}; name the folder of the sheet with --output_dir")
    key = strict_json.read_object(file)
    is_key = all(isinstance(key.get(name), kind) for name, kind in KEY_FIELDS.items())
    if not is_key or not all(isinstance(name, str) for name in key["models"]):
        raise InputError(f"{file}: is not the key of a sheet, or damaged; needed: {', '.join(KEY_FIELDS)}, as written")
    return key


def read_sheet(folder: Path, runs: Sequence[Path]) -> Sheet:
    """The sheet of a folder, from its key and the replies of the runs.

    Raises:
        InputError: when the replies are no longer those of the sheet, or the key was changed.
    """
    key, file = read_key(folder), folder / KEY_FILE
    replies = read_replies(runs, key["models"], f"{file}: models")
    changed = InputError(
        f"{file}: belongs to other replies than those of the run now; name the run that the sheet was made of, as it "
        f"was then"
    )
    try:
        sheet = Sheet(replies, key["seed"], [SheetPair.of(record) for record in key["pairs"]])
        is_same = sheet.id == key["sheet"]
    except (KeyError, TypeError) as error:
        raise changed from error
    if not is_same:
        raise changed
    return sheet
