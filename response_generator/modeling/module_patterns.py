"""Tries the regular expressions with which a LoRA configuration chooses modules before PEFT uses them: adapters are
foreign files."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from response_generator.config.validation import describe_value

# Python's own re, as in PEFT: the library regex has a time limit, but is fast with patterns that re never ends with.
PROGRAM = Path(__file__).with_name("match_patterns.py")
TIMEOUT_SECONDS = 20.0  # for all patterns of a configuration; usual ones take milliseconds
NAME = re.compile(r"[\w.-]*")
# How PEFT 0.21 uses a pattern of each key: the function of re, and the pattern around it.
USES = {
    "target_modules": ("fullmatch", "{}"),
    "exclude_modules": ("fullmatch", "{}"),
    "modules_to_save": ("match", r"(^|.*\.){}($|\..*)"),
    "layers_pattern": ("match", r"(?:^|.*?\.){}\.(?P<idx>\d+)\."),
    "rank_pattern": ("match", r"(.*\.)?({})$"),
    "alpha_pattern": ("match", r"(.*\.)?({})$"),
}


def find_pattern_errors(config: dict[str, Any], module_names: Iterable[str]) -> list[str]:
    """Returns why the first unusable pattern of a LoRA configuration is unusable: it is no regular expression, or takes
    too long on the names of the base model's modules."""
    patterns = list(list_patterns(config))
    if not patterns:
        return []
    uses = [(USES[key][0], USES[key][1].replace("{}", pattern)) for key, pattern in patterns]
    question = json.dumps({"patterns": uses, "names": list(module_names)})
    command = [sys.executable, "-I", "-S", str(PROGRAM)]
    try:
        done = subprocess.run(command, input=question.encode(), capture_output=True, timeout=TIMEOUT_SECONDS)
        output, unfinished = done.stdout, f"ends Python with status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, unfinished = error.stdout or b"", f"takes more than {TIMEOUT_SECONDS:.0f} seconds"
    reasons = [reason and f"is no regular expression: {reason}" for reason in map(json.loads, output.splitlines())]
    reasons += [unfinished] * (len(patterns) - len(reasons))
    return [
        f"{key}: got {describe_value(pattern)}, which {reason}; write a simpler pattern, or names of modules"
        for (key, pattern), reason in zip(patterns, reasons, strict=True)
        if reason
    ][:1]


def list_patterns(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Lists `(key, text)` of what PEFT takes for a pattern, apart from plain names, which are always fine."""
    for key in USES:
        value = config.get(key)
        if isinstance(value, list) and key in ("target_modules", "exclude_modules"):
            continue  # names, which PEFT compares as texts
        for text in [value] if isinstance(value, str) else value if isinstance(value, (list, dict)) else []:
            if isinstance(text, str) and not NAME.fullmatch(text):
                yield key, text
