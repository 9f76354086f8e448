"""Hostile text in Markdown, rendered by markdown-it: it is shown as it is, and changes nothing around it."""

import re
from html import unescape

import pytest
from markdown_it import MarkdownIt

from response_generator.reporting.markdown import escape, escape_cell, format_code, format_table

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
TEXTS = [
    "a | b \\| c \\\\| d",
    "`code` and ``more`` and ```",
    "```",
    "<script>alert(1)</script> <!-- a",
    "[x](javascript:alert(1)) ![y](http://x/y.png) [z][z]",
    "<javascript:alert(1)>",
    "&lt;b&gt; &#x3c;b> <b>bold</b>",
    "*a* **b** _c_ __d__ ~~e~~ per_device_train_batch_size _a",
    "p 0.0026 [-2.4, 0.0] (70.6 -> 85.7 %)",
]


def read_texts(rendered: str) -> list[str]:
    """The texts between tags."""
    return [unescape(text).strip() for text in re.split(r"<[^>]*>", rendered) if text.strip()]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_shown_as_it_is(text):
    assert read_texts(RENDERER.render(f"before {escape(text)} after")) == [f"before {text} after"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_in_its_cell(text):
    table = format_table({text: text, "next": 1})
    assert read_texts(RENDERER.render(table)) == [text, text, "next", "1"]
    code = RENDERER.render(f"| | |\n|---|---|\n| {escape_cell(format_code(text))} | 1 |\n")
    assert re.findall(r"<(?!/?(?:table|thead|tbody|tr|th|td|code)\b)", code) == []
    assert code.count("<code>") == 1 and code.count("<tr>") == 2


@pytest.mark.parametrize("text", TEXTS)
def test_a_name_stays_in_its_code(text):
    assert read_texts(RENDERER.render(f"from {format_code(text)}.")) == ["from", text, "."]


def test_a_text_has_one_line_without_control_characters():
    assert escape("a\n\n# b\r\n\x1b[2J") == "a # b\\\\r \\\\x1b[2J"
    assert format_code("a\n```\nb") == "````a ``` b````"


def test_folders_of_this_machine_are_not_published():
    rows = {
        "optim_args": "rank=64,cache=/home/me/secret/x,other=~/y/z,url=https://host/a/b",
        "from_pretrained": {"cache_dir": "/home/me/cache", "max_memory": [1, "/home/me/one"], "dtype": "bfloat16"},
        "spaces": "/home/me/my models/x",
        "ratio": "1/2 tokens/s",
    }
    assert read_texts(RENDERER.render(format_table(rows)))[1::2] == [
        "rank=64,cache=x,other=z,url=https://host/a/b",
        "{'cache_dir': 'cache', 'max_memory': [1, 'one'], 'dtype': 'bfloat16'}",
        "x",
        "1/2 tokens/s",
    ]
