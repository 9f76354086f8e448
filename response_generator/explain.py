"""Explains the keys of the args files: `python -m response_generator.explain dpo.beta`.

Without a key it lists all of them; the name of a section, such as `dpo`, lists its keys.
"""

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from difflib import get_close_matches
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from response_generator.cli import command_line
from response_generator.config import json_schema
from response_generator.config.args_file import ArgsFile, has_key
from response_generator.config.documentation import describe_allowed, describe_default, shorten
from response_generator.config.json_schema import find_entry_section_name, find_section_name
from response_generator.config.library.advice import ADVICE, ORIGINAL_KEYS
from response_generator.config.library.library_keywords import REFUSALS
from response_generator.config.programs import PROGRAMS, Program
from response_generator.errors import InputError
from response_generator.runs.terminal import open_console, to_plain_text

ARGS = Path(__file__).parents[1] / "args"
RECIPES = ("", "demo/", "daily_dialog/")  # folders of args whose values are shown
INDENT_CHARACTERS = 4


class Setting(NamedTuple):
    """One key of an args file."""

    path: str
    values: str
    meaning: str


def main() -> None:
    parser = ArgumentParser(
        "python -m response_generator.explain", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("key", nargs="?", metavar="KEY", help="a key such as dpo.beta, or a section such as dpo")
    key = parser.parse_args().key
    programs: dict[Setting, list[Program]] = {}  # that read each setting; two may describe a key differently
    for program in PROGRAMS:
        schema = json_schema.describe_arguments(program.arguments)
        schema["properties"] |= json_schema.FILE_KEYS if program.schema_name else {}
        for setting in list_settings(schema, schema["$defs"]):
            programs.setdefault(setting, []).append(program)
    found = find_settings(programs, key) if key else []
    console = open_console()
    for setting in sorted(found):
        show_setting(console, setting, programs[setting], setting.meaning)
        for line in describe_use(setting.path, programs[setting]):
            print_indented(console, line)
    for setting in sorted(programs):
        if not found or setting.path.startswith(f"{found[0].path}."):
            show_setting(console, setting, programs[setting], shorten(setting.meaning))


def list_settings(section: json_schema.Schema, sections: json_schema.Schema, prefix: str = "") -> list[Setting]:
    """Every key of a section, also in the sections inside it: `dataset.path` is a key of the section `dataset`,
    and `datasets.NUMBER.path` one of each section in the list `datasets`."""
    settings = []
    for key, field in section["properties"].items():
        default = describe_default(field, key in section.get("required", ()))
        values = f"{describe_allowed(field)}; default: {default}".replace("`", "")
        settings.append(Setting(prefix + key, values, field["description"]))
        if name := find_section_name(field):
            settings += list_settings(sections[name], sections, f"{prefix}{key}.")
        if name := find_entry_section_name(field):
            entry = "NUMBER" if "items" in field else "NAME"
            settings += list_settings(sections[name], sections, f"{prefix}{key}.{entry}.")
    return settings


def find_settings(settings: dict[Setting, list[Program]], key: str) -> list[Setting]:
    """The settings with this path, or else those whose last part is this key.

    Raises:
        InputError: when there are none.
    """
    found = [setting for setting in settings if setting.path == key]
    found = found or [setting for setting in settings if setting.path.endswith(f".{key}")]
    if found:
        return found
    if (name := key.rpartition(".")[2]) in REFUSALS:
        raise InputError(f"{key}: no key of an args file; {REFUSALS[name]}")
    paths = {setting.path for setting in settings}
    names = {path.rpartition(".")[2]: path for path in sorted(paths)}
    matches = get_close_matches(key, paths, n=3) or [names[name] for name in get_close_matches(key, names, n=3)]
    hint = f"did you mean {' or '.join(matches)}?" if matches else "without a key, all of them are listed"
    raise InputError(f"{key}: no key of an args file; {hint}")


def describe_use(path: str, programs: list[Program]) -> Iterator[str]:
    """What to try first, the values in the args files of the recipes, and that of the original recipe."""
    if path in json_schema.FILE_KEYS:
        return
    if path in ADVICE:
        start, reason, source = ADVICE[path]
        yield f"try first: {start}. {reason} (Source: {source}.)"
    files: dict[str, list[str]] = {}  # by value
    names = [folder + program.args_file for program in programs if program.args_file for folder in RECIPES]
    for name in names:
        if (value := find_value(path, name)) is not None:
            files.setdefault(value, []).append(f"args/{name}")
    values = [f"{value} in {', '.join(found)}" for value, found in files.items()]
    yield f"in the recipes: {'; '.join(values) or 'set neither in args/ nor in args/demo/ and args/daily_dialog/'}"
    for name in names:
        if path in ORIGINAL_KEYS.get(name, ()):
            yield f"in the original recipe: {find_value(path, name)}"


def find_value(path: str, name: str) -> str | None:
    """The value of a key in an args file, as JSON; None where the file does not have it."""
    file = ARGS / name
    if not file.is_file():  # args/ is not part of an installed package
        return None
    values, keys = ArgsFile.read(file).values, path.split(".")
    return json.dumps(reduce(getitem, keys, values), ensure_ascii=False) if has_key(values, keys) else None


def show_setting(console: Console, setting: Setting, programs: list[Program], meaning: str) -> None:
    """Prints a key with its values and programs, and below it its meaning."""
    names = ", ".join(program.name for program in programs)
    console.print(Text(setting.path, style="bold").append(f"  {setting.values}; {names}", style="not bold"))
    print_indented(console, to_plain_text(meaning))


def print_indented(console: Console, text: str) -> None:
    """Without spaces at the ends of lines, which end up in a file or a pipe."""
    for line in Text(text).wrap(console, console.width - INDENT_CHARACTERS):
        line.rstrip()
        console.print(Text(" " * INDENT_CHARACTERS).append_text(line), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
