"""Describes the keys of the args files as text, and writes docs/configuration.md, the reference of this program's keys
and of the most important ones of the libraries.

python -m response_generator.config.documentation
"""

import json
import re
from pathlib import Path

from response_generator.config import json_schema
from response_generator.config.json_schema import NULL, Schema, find_entry_section_name, find_section_name
from response_generator.config.library import library_keywords
from response_generator.config.library.key_rule import MAX_COUNT, MAX_SEED
from response_generator.config.programs import PROGRAMS
from response_generator.config.schema import ModelArguments
from response_generator.config.validation import KEYWORD_SECTIONS

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"
COMMAND = "python -m response_generator.config.documentation"
OWN_OF_EACH_PROGRAM = ("adapter", "dataset")
MAX_MEANING_CHARACTERS = 300
# What a first run changes, if anything
TRAINING_KEYS = "learning_rate num_train_epochs per_device_train_batch_size gradient_accumulation_steps".split()
MAIN_LIBRARY_KEYS = {
    "dpo": {
        "beta",
        "loss_type",
        "loss_weights",
        "max_length",
        "eval_strategy",
        "gradient_checkpointing",
        *TRAINING_KEYS,
    },
    "sft": {"max_length", "eval_strategy", "gradient_checkpointing", *TRAINING_KEYS},
    "trainer": {*TRAINING_KEYS},
    "lora": {"r", "lora_alpha", "target_modules"},
    "generation": {"do_sample", "max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty"},
    "from_pretrained": {"load_in_4bit"},
}
INTRODUCTION = f"""\
# Configuration

This file is generated from `response_generator/config/` and the keywords of the pinned libraries. After a
change of either, write it and the JSON Schemas again:

```sh
.venv/bin/{COMMAND}
.venv/bin/python -m response_generator.config.json_schema
```

One JSON file, with the files that it extends, is one complete run. `args/dpo_arg.json` and `args/evaluate_arg.json`
are complete examples; `args/README.md` lists all args files. Another run is written as what differs:

```json
{{
  "extends": "args/demo/dpo_arg.json",
  "output_dir": "runs/beta/dpo",
  "dpo": {{"beta": 0.3}}
}}
```

- `extends` names an args file or a list of them, with paths relative to the file in which it stands. They may extend
  others. What this file writes wins over them, a later file of a list over an earlier one, and `--set` over all.
- Objects are merged key by key. All other values are replaced, lists too, and `special_tokens`, `emotion_labels` and
  `second_emotion_labels`, which belong to one model, and `eval_datasets`. `null` removes what an extended file has: the
  default applies.
- An error about a value names the file that wrote it; one about a missing model or data file names the key alone.
  `args.json` in the run folder has the result, and `environment.json` the names of all files, under `starts`.

In a terminal, each key explains itself, and a section all of its keys:

```sh
.venv/bin/python -m response_generator.explain dpo.beta
.venv/bin/python -m response_generator.explain generation
```

In an editor: every args file names a JSON Schema with `$schema`, from `args/schemas/`. Editors such as VS Code then
complete the keys, show their meaning and mark wrong values; a file that extends another need not have all keys. The
programs ignore the key.

- An unknown key, a wrong JSON type, a missing required key or a number outside its range is an error. All errors are
  reported at once, before anything is loaded.
- `null` means that the key is not given: its default applies.
- Models, adapters and data sets are hub ids, `owner/name` or `owner/name@revision` with a branch, tag or commit, or
  paths on this machine.
- Paths may contain `~` and `$VARIABLES`. A relative path is relative to the folder in which the command runs, only
  those in `extends` and `$schema` to the file.
- `--set KEY.PATH=VALUE` overrides one key, for example `--set dpo.beta=0.2`; in a list, an entry's number from 0 on is
  its key: `--set datasets.1.weight=2`.
- `token` is never a key: the libraries read `HF_TOKEN` from the environment.

This page has the keys of this program, and {len(set().union(*MAIN_LIBRARY_KEYS.values()))} of the libraries, with the
beginning of their own description. The sections `dpo`, `sft`, `trainer`, `lora`, `generation` and `from_pretrained`
accept many more: an editor and `explain` have them all. Keys that the program sets itself are in neither, for example
`dpo.output_dir` and `generation.eos_token_id`: the error message for such a key says where the value comes from.

## Command line

| option | meaning |
|---|---|
| `--json_file FILE` | the args file |
| `--set KEY.PATH=VALUE` | overrides one value; VALUE is JSON, or else text; repeatable |
| `--dry_run` | checks everything, shows models and data, writes nothing; DPO: takes a few steps, for memory and time |
| `--verbose` | also shows what the libraries print about themselves |
| `--help` | lists the options and the top-level keys |
| `--from_predictions PATH` | `evaluate.py`: scores the replies of an earlier run again |
| `--compare RUN_FOLDER NAME=RUN_FOLDER,…` | `evaluate.py`: compares finished runs; no args file |
| `--output_dir FOLDER` | `evaluate.py`: where `--compare` writes |
| `--describe DATASET` | `python -m response_generator.preferences`: describes pairs; takes no args file |
| `--serve [PORT]`, `--host ADDRESS` | `python -m response_generator.chat`: chats in a browser, see [chat.md](chat.md) |

| exit status | meaning |
|---|---|
| 0 | finished |
| 2 | the arguments or the data are wrong; all errors were printed, nothing was written |
| 130 | interrupted; the last line says how to continue (torchrun and accelerate themselves then end with 1) |
| 1 | any other error |
"""


def build_page() -> str:
    """The text of docs/configuration.md."""
    schemas = {program.name: json_schema.describe_arguments(program.arguments) for program in PROGRAMS}
    common = json_schema.describe_arguments(ModelArguments)
    for key in OWN_OF_EACH_PROGRAM:
        del common["properties"][key]
    parts = [INTRODUCTION, "## Shared keys\n", build_key_table(common)]
    sections: dict[str, Schema] = {}
    descriptions: dict[str, str] = {}
    for name, schema in schemas.items():
        shared = [key for key, field in schema["properties"].items() if field == common["properties"].get(key)]
        own = [key for key in schema["properties"] if key not in shared]
        listed = [f"Shared keys: {', '.join(f'`{key}`' for key in shared)}.\n"] if shared else []
        parts += [f"## Keys of `{name}`\n", *listed, build_key_table(schema, own)]
        found = find_sections(schema)
        sections = found | {key: add_keys(section, found.get(key)) for key, section in sections.items()}
        descriptions = {key: field["description"] for key, field in schema["properties"].items()} | descriptions
    own_sections = [key for key in sections if key not in KEYWORD_SECTIONS]
    for key in own_sections:
        parts += [f"## `{key}`\n", build_key_table(sections[key])]
    for key in KEYWORD_SECTIONS:
        shown = choose_library_keys(key)
        hidden = len(sections[key]["properties"]) - len(shown)
        others = f"{hidden} more keys: `python -m response_generator.explain {key}`.\n"
        parts += [f"## `{key}`\n", f"{descriptions[key]}\n", build_key_table(sections[key], shown), others]
    return "\n".join(parts)


def choose_library_keys(section: str) -> list[str]:
    """The keys of a library's section that the page has: those that this program adds, and the most important ones."""
    chosen = library_keywords.list_own_keywords(section) | MAIN_LIBRARY_KEYS[section]
    return [key for key in library_keywords.describe_keywords(section) if key in chosen]


def find_sections(schema: Schema) -> dict[str, Schema]:
    """The schema of each section, by the first key that holds it."""
    first_keys: dict[str, str] = {}
    for key, field in schema["properties"].items():
        if name := find_section_name(field) or find_entry_section_name(field):
            first_keys.setdefault(name, key)
    return {key: schema["$defs"][name] for name, key in first_keys.items()}


def add_keys(section: Schema, other: Schema | None) -> Schema:
    """The section with the keys that only another program's section of the same name has."""
    own = section["properties"]
    return section | {"properties": own | other["properties"] | own} if other else section


def build_key_table(schema: Schema, keys: list[str] | None = None) -> str:
    lines = ["| key | allowed | default | meaning |", "|---|---|---|---|"]
    for key in keys or schema["properties"]:
        field = schema["properties"][key]
        cells = (f"`{key}`", describe_allowed(field), describe_default(field, key in schema.get("required", ())))
        meaning = shorten(field["description"]).replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {meaning} |")
    return "\n".join(lines) + "\n"


def describe_allowed(field: Schema) -> str:
    """The allowed JSON types and values of one key, for example "integer (>= 1) or null"."""
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(describe_allowed(option) for option in sorted(options, key=lambda option: option == NULL))
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "$ref" in field:
        return "object"
    if "type" not in field:
        return "any"
    if field["type"] == "array":
        values = field.get("items", {})
        if "$ref" in values:
            return "list of objects"
        listed = ", ".join(f"`{json.dumps(value)}`" for value in values.get("enum", ()))
        return f"list of {listed}" if listed else f"list{describe_bounds(values)}"
    return field["type"] + describe_bounds(field)


def describe_bounds(field: Schema) -> str:
    bounds = [
        f"{sign} {format_number(field[name])}"
        for name, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", ">="),
            ("exclusiveMaximum", "<"),
            ("maximum", "<="),
        )
        if name in field
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def format_number(number: float) -> str:
    powers = {MAX_COUNT: "2^31 - 1", MAX_SEED: "2^32 - 1"}
    return powers.get(number) or (f"{number:,.0f}" if number == int(number) else f"{number:g}")


def describe_default(field: Schema, is_required: bool) -> str:
    if is_required:
        return "required"
    if "default" not in field:
        return "the model's or library's own"
    if isinstance(field["default"], dict) and field["default"]:
        return "see the section"
    return f"`{json.dumps(field['default'])}`"


def shorten(meaning: str) -> str:
    """The first sentences of a description, at most MAX_MEANING_CHARACTERS if the first one is not longer."""
    first, *others = re.split(r"(?<=[a-z0-9)`]\.) (?=[A-Z])", meaning)
    for sentence in others:
        if len(first) + len(sentence) > MAX_MEANING_CHARACTERS:
            break
        first += f" {sentence}"
    return first


def write_page() -> None:
    FILE.write_text(build_page(), encoding="utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    write_page()
