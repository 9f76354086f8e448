"""README.zh-TW.md has the sections, commands, figures, files and links of README.md, in the same order."""

import re

import pytest
from conftest import ROOT

ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh-TW.md"))
HAN = re.compile("[\u4e00-\u9fff]")
SIMPLIFIED = set("这们说对话训练评估参数数据设执行时间请问题实现认证显卡内存结论软件默认网络信息")
TRADITIONAL = set("這們說對話訓練評估參數據設執行時間請問題實現認證顯卡內存結論軟件默認網絡信息")


def list_commands(text: str) -> list[str]:
    """The lines of all `sh` blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.partition(" #")[0].rstrip() for block in blocks for line in block.splitlines()]


def list_figures(text: str) -> list[str]:
    """Numbers of tables and sentences, such as 85.7 and p 0.0026; those of commands are compared as commands."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"[+-]?\d[\d.,]*\d|\d+", re.sub(r"`[^`]*`", "", text))


def list_levels(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+(?= )", text, re.MULTILINE)


def list_links(text: str) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("README")]


def list_code(text: str) -> list[str]:
    return sorted(set(re.findall(r"`([^`\n]+)`", text)))


def list_table_cells(text: str) -> list[list[int]]:
    return [[line.count("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    "find", [list_levels, list_commands, list_links, list_table_cells], ids=lambda find: find.__name__
)
def test_both_languages_have_the_same(find):
    english, chinese = (find(file.read_text(encoding="utf-8")) for file in (ENGLISH, CHINESE))
    assert chinese == english and len(english) >= 3


def test_both_languages_have_the_same_figures():
    """In any order within the document: sentences are built differently."""
    english, chinese = (sorted(list_figures(file.read_text(encoding="utf-8"))) for file in (ENGLISH, CHINESE))
    assert chinese == english


def test_each_language_links_the_other():
    assert "(README.zh-TW.md)" in ENGLISH.read_text(encoding="utf-8")
    assert "(README.md)" in CHINESE.read_text(encoding="utf-8")


def test_it_is_written_in_traditional_characters():
    text = CHINESE.read_text(encoding="utf-8")
    assert len(HAN.findall(text)) > 800
    assert not (SIMPLIFIED - TRADITIONAL) & set(text)
