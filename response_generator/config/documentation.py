"""Writes docs/configuration.md, the reference of all keys of the args files, from the classes in schema.py.

python -m response_generator.config.documentation
"""

import json
from pathlib import Path
from typing import Any

from response_generator.config import conflicts, library_keywords, training_conflicts
from response_generator.config.classifier_schema import ClassifierArguments
from response_generator.config.preference_schema import DescriptionArguments, PreferenceDataArguments
from response_generator.config.ranges import MAX_COUNT, MAX_SEED, RANGES, Range
from response_generator.config.schema import EvaluateArguments, ModelArguments
from response_generator.config.training_schema import DPOArguments, SFTArguments

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"
COMMAND = "python -m response_generator.config.documentation"
LIBRARY_CLASSES = {
    "dpo": "Fields of TRL's `DPOConfig`, and the two arguments of transformers' `EarlyStoppingCallback`.",
    "sft": "Fields of TRL's `SFTConfig`, and the two arguments of transformers' `EarlyStoppingCallback`.",
    "trainer": "Fields of transformers' `TrainingArguments`.",
    "lora": "Fields of PEFT's `LoraConfig`.",
    "generation": "Fields of transformers' `GenerationConfig`.",
    "from_pretrained": "Arguments of unsloth's `FastLanguageModel.from_pretrained`, or of transformers' "
    "`AutoModelForCausalLM.from_pretrained`, and fields of the model's configuration.",
}
PROGRAMS = {
    "fine_tune_dpo.py": DPOArguments,
    "evaluate.py": EvaluateArguments,
    "response_generator.sft": SFTArguments,
    "response_generator.classifier": ClassifierArguments,
    "response_generator.preferences": PreferenceDataArguments,
    "response_generator.preferences --describe": DescriptionArguments,
}
ALLOWED_VALUES = {
    "dpo": {
        "loss_type": training_conflicts.LOSS_TYPES,
        "f_divergence_type": training_conflicts.F_DIVERGENCES,
        "train_sampling_strategy": training_conflicts.SAMPLING_STRATEGIES,
        "metric_for_best_model": training_conflicts.HELD_OUT_METRICS,
    },
    "sft": {
        "loss_type": training_conflicts.SFT_LOSS_TYPES,
        "train_sampling_strategy": training_conflicts.SAMPLING_STRATEGIES,
        "metric_for_best_model": training_conflicts.SFT_HELD_OUT_METRICS,
    },
    "from_pretrained": {"attn_implementation": conflicts.ATTENTION_IMPLEMENTATIONS, "dtype": conflicts.DTYPES},
}
INTRODUCTION = f"""\
# Configuration

This file is generated from `response_generator/config/schema.py` and the keywords of the pinned libraries. After a
change of either, write it again:

```sh
.venv/bin/{COMMAND}
```

One JSON file is one complete run. `args/dpo_arg.json`, `args/evaluate_arg.json`,
`args/preference_arg.json` and `args/sft_arg.json` are complete examples.

- An unknown key, a wrong JSON type, a missing required key or a number outside its range is an error. All errors are
  reported at once, before anything is loaded.
- `null` means that the key is not given: its default applies.
- Models, adapters and data sets are hub ids, `owner/name` or `owner/name@revision` with a branch, tag or commit, or
  paths on this machine.
- Paths may contain `~` and `$VARIABLES`. A relative path is relative to the folder in which the command runs.
- `--set KEY.PATH=VALUE` overrides one key, for example `--set dpo.beta=0.2`.
- `token` is never a key: the libraries read `HF_TOKEN` from the environment.

The tables of `dpo`, `sft`, `trainer`, `lora`, `generation` and `from_pretrained` list the accepted keys of those
libraries; their own documentation describes them. Every number has a range. Keys that the program sets itself are not
listed, for example `dpo.output_dir` and `generation.eos_token_id`: the error message for such a key says where the
value comes from.

## Command line

| option | meaning |
|---|---|
| `--json_file FILE` | the args file |
| `--set KEY.PATH=VALUE` | overrides one value; VALUE is JSON, or else text; repeatable |
| `--dry_run` | checks everything, shows data and cost, writes nothing |
| `--verbose` | also shows what the libraries print about themselves |
| `--help` | lists the options and the top-level keys |
| `--from_predictions PATH` | `evaluate.py`: scores the replies of an earlier run again |
| `--compare RUN_FOLDER NAME=RUN_FOLDER,…` | `evaluate.py`: compares finished runs; no args file |
| `--output_dir FOLDER` | `evaluate.py`: where `--compare` writes |
| `--describe DATASET` | `python -m response_generator.preferences`: describes pairs; takes no args file |

| exit status | meaning |
|---|---|
| 0 | finished |
| 2 | the arguments or the data are wrong; all errors were printed, nothing was written |
| 130 | interrupted; the last line says how to continue (torchrun and accelerate themselves then end with 1) |
| 1 | any other error |
"""


def build_page() -> str:
    """The text of docs/configuration.md."""
    schemas = {title: model.model_json_schema() for title, model in PROGRAMS.items()}
    # Each program describes its own adapter and data.
    common = [key for key in ModelArguments.model_fields if key not in ("adapter", "dataset")]
    parts = [INTRODUCTION, "## Keys of all programs\n", build_key_table(ModelArguments.model_json_schema(), common)]
    sections: dict[str, dict[str, Any]] = {}
    for title, schema in schemas.items():
        own = [key for key in schema["properties"] if key not in common]
        parts += [f"## Keys of {title}\n", build_key_table(schema, own)]
        sections = find_sections(schema) | sections
    for key, section in sections.items():
        parts += [f"## `{key}`\n", build_key_table(section)]
    parts += [build_library_section(section) for section in LIBRARY_CLASSES]
    return "\n".join(parts)


def find_sections(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each section, by the first key that holds it."""
    first_keys: dict[str, str] = {}
    for key, field in schema["properties"].items():
        for option in [field, *field.get("anyOf", [])]:
            if "$ref" in option:
                first_keys.setdefault(option["$ref"].rpartition("/")[2], key)
    return {key: schema["$defs"][name] for name, key in first_keys.items()}


def build_key_table(schema: dict[str, Any], keys: list[str] | None = None) -> str:
    lines = ["| key | allowed | default | meaning |", "|---|---|---|---|"]
    for key in keys or schema["properties"]:
        field = schema["properties"][key]
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
        if isinstance(field.get("default"), dict):
            default = "see the section"
        description = " ".join(field["description"].split())
        lines.append(f"| `{key}` | {describe_allowed(field)} | {default} | {description} |")
    return "\n".join(lines) + "\n"


def describe_allowed(field: dict[str, Any]) -> str:
    """The allowed JSON types and values of one field of a JSON schema."""
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return " or ".join(describe_allowed(option) for option in options)
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "$ref" in field:
        return "object"
    json_type = {"array": "list"}.get(field["type"], field["type"])
    bounds = [
        f"{sign} {format_number(field[name])}"
        for name, sign in (("exclusiveMinimum", ">"), ("minimum", ">="), ("maximum", "<="))
        if name in field
    ]
    return f"{json_type} ({', '.join(bounds)})" if bounds else json_type


def describe_range(allowed: Range) -> str:
    low = f"{'>' if allowed.open_low else '>='} {format_number(allowed.low)}"
    return f"{low}, {'<' if allowed.open_high else '<='} {format_number(allowed.high)}"


def format_number(number: float) -> str:
    powers = {MAX_COUNT: "2^31 - 1", MAX_SEED: "2^32 - 1"}
    return powers.get(number) or (f"{number:,.0f}" if number == int(number) else f"{number:g}")


def build_library_section(section: str) -> str:
    """Keys, JSON types and ranges of a section whose keys are a library's own."""
    unsloth_only = library_keywords.unsloth_only_keywords() if section == "from_pretrained" else set()
    lines = [
        f"## `{section}`\n",
        f"{LIBRARY_CLASSES[section]}\n",
        "| key | JSON type | allowed |",
        "|---|---|---|",
    ]
    for key, json_types in library_keywords.accepted_json_types(section).items():
        allowed = describe_library_values(section, key, key in unsloth_only)
        lines.append(f"| `{key}` | {' or '.join(json_types) or 'any'} | {allowed} |")
    return "\n".join(lines) + "\n"


def describe_library_values(section: str, key: str, is_unsloth_only: bool) -> str:
    found = []
    if key in RANGES[section]:
        found.append(describe_range(RANGES[section][key]))
    if key in ALLOWED_VALUES.get(section, {}):
        found.append(", ".join(f"`{value}`" for value in ALLOWED_VALUES[section][key]))
    if reason := training_conflicts.find_refused_keys(section).get(key):
        found.append(f"only `false`: {reason}")
    if is_unsloth_only:
        found.append("backend `unsloth` only")
    return "; ".join(found)


if __name__ == "__main__":
    FILE.write_text(build_page(), encoding="utf-8")
    print(f"wrote {FILE}")
