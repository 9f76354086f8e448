"""Explains the keys of the args files: `python -m response_generator.explain dpo.beta`.

Without a key it lists all of them; the name of a section, such as `dpo`, lists its keys.
"""

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from response_generator.cli import command_line
from response_generator.config import json_schema, strict_json
from response_generator.config.library_keywords import EARLY_STOPPING, SHARED_PREFIX
from response_generator.config.programs import PROGRAMS, Program
from response_generator.config.schema_text import describe_allowed, describe_default, find_section_name, shorten
from response_generator.errors import InputError
from response_generator.runs.terminal import open_console

LIBRARY_CLASSES = {
    "dpo": "TRL's DPOConfig",
    "sft": "TRL's SFTConfig",
    "trainer": "transformers' TrainingArguments",
    "lora": "PEFT's LoraConfig",
    "generation": "transformers' GenerationConfig",
    "from_pretrained": "FastLanguageModel.from_pretrained of unsloth, or AutoModelForCausalLM.from_pretrained of "
    "transformers",
}
OTHER_CLASSES = dict.fromkeys(EARLY_STOPPING, "transformers' EarlyStoppingCallback") | {SHARED_PREFIX: "this program"}
ARGS = Path(__file__).parents[1] / "args"


@dataclass(frozen=True)
class Setting:
    """One key of the args file of one program."""

    path: str
    meaning: str
    allowed: str
    default: str
    program: Program


def main() -> None:
    parser = ArgumentParser(
        "python -m response_generator.explain", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("key", nargs="?", metavar="KEY", help="a key such as dpo.beta, or a section such as dpo")
    key = parser.parse_args().key
    settings = [setting for program in PROGRAMS for setting in list_settings(program)]
    if key is None:
        show_list(settings)
        return
    found = find_settings(settings, key)
    for path in dict.fromkeys(setting.path for setting in found):
        show_setting([setting for setting in found if setting.path == path])
    show_list([setting for setting in settings if setting.path.startswith(f"{found[0].path}.")])


def list_settings(program: Program) -> list[Setting]:
    """Every key of a program's args file; `dataset.path` is a key of the section `dataset`."""
    schema = json_schema.describe_arguments(program.arguments)

    def list_section(section: json_schema.Schema, prefix: str) -> list[Setting]:
        settings = []
        for key, field in section["properties"].items():
            path = prefix + key
            default = describe_default(field, key in section.get("required", ())).replace("`", "")
            allowed = describe_allowed(field).replace("`", "")
            settings.append(Setting(path, field["description"], allowed, default, program))
            if name := find_section_name(field):
                settings += list_section(schema["$defs"][name], f"{path}.")
        return settings

    return list_section(schema, "")


def find_settings(settings: list[Setting], key: str) -> list[Setting]:
    """The settings with this path, or else those whose last part is this key.

    Raises:
        InputError: when there are none.
    """
    found = [setting for setting in settings if setting.path == key]
    found = found or [setting for setting in settings if setting.path.endswith(f".{key}")]
    if found:
        return found
    paths = {setting.path for setting in settings}
    names = {path.rpartition(".")[2]: path for path in sorted(paths)}
    matches = get_close_matches(key, paths, n=3) or [names[name] for name in get_close_matches(key, names, n=3)]
    hint = f"did you mean {' or '.join(matches)}?" if matches else "without a key, all of them are listed"
    raise InputError(f"{key}: no key of an args file; {hint}")


def show_setting(settings: list[Setting]) -> None:
    """Prints one key; `settings` are the programs that have it, which may describe it differently."""
    table = Table.grid(padding=(0, 2))
    for meaning in dict.fromkeys(setting.meaning for setting in settings):
        same = [setting for setting in settings if setting.meaning == meaning]
        table.add_row("meaning", Text(meaning))
        table.add_row("allowed", Text(same[0].allowed))
        table.add_row("default", Text(same[0].default))
        table.add_row("read by", Text(", ".join(setting.program.name for setting in same)))
        published = filter(None, map(find_published_value, same))
        table.add_row("original recipe", Text("\n".join(published) or "not in its args files"))
    section, _, key = settings[0].path.partition(".")
    if key and section in LIBRARY_CLASSES:
        table.add_row("goes to", Text(OTHER_CLASSES.get(key, LIBRARY_CLASSES[section])))
    console = open_console()
    console.print(Text(settings[0].path, style="bold"))
    console.print(table)


def find_published_value(setting: Setting) -> str | None:
    """The value in the args file of the original recipe, and the name of the file."""
    name = setting.program.published_args
    file = ARGS / name if name else None
    if file is None or not file.is_file():  # args/ is not part of an installed package
        return None
    value: Any = strict_json.read_object(file)
    for key in setting.path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return f"{json.dumps(value, ensure_ascii=False)} in args/{name}"


def show_list(settings: list[Setting]) -> None:
    """Prints two lines for each key: its values and programs, and its meaning."""
    programs: dict[tuple[str, ...], list[str]] = {}
    for setting in settings:
        entry = (setting.path, setting.allowed, setting.default, shorten(setting.meaning))
        programs.setdefault(entry, []).append(setting.program.name)
    console = open_console()
    for (path, allowed, default, meaning), names in sorted(programs.items()):
        line = Text(path, style="bold").append(f"  {allowed}; default: {default}; {', '.join(names)}", style="not bold")
        console.print(line)
        console.print(Padding(Text(meaning), (0, 0, 0, 4)))


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
