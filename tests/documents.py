"""README.md, CONTRIBUTING.md, CHANGELOG.md and the files of docs/, with their fenced blocks and inline code. What a
reader follows first comes first."""

import re
from dataclasses import dataclass
from pathlib import Path

from tiny_models import ROOT

FIRST = [ROOT / name for name in ("README.md", "docs/tutorial.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS = [*FIRST, *sorted(set((ROOT / "docs").glob("*.md")) - {*FIRST})]
TEXTS = {file: file.read_text(encoding="utf-8") for file in DOCUMENTS}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    file: Path
    language: str
    text: str


def find_blocks() -> list[Block]:
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    return [Block(file, match[1], match[2]) for file, text in TEXTS.items() for match in fence.finditer(text)]


BLOCKS = find_blocks()


def list_inline_code(file: Path) -> list[str]:
    prose = re.sub(r"^ *```.*?^ *```$", "", TEXTS[file], flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def list_make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, value in reversed(re.findall(r"^(\w+) := (.+)$", text, re.MULTILINE)):
        text = text.replace(f"$({name})", value)
    return set(re.findall(r"^([\w./-]+):(?!=)", text, re.MULTILINE))
