"""A page of all blocks in a real browser: its texts, its rows, and how it looks on a wide and on a narrow screen."""

import re
from pathlib import Path

import pytest
from browser_pages import PHONE, open_page

from response_generator.reporting import blocks
from response_generator.reporting.page import write_page

ATTACK = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> & \u2028"
TITLE = f"A page & {ATTACK}"
PICTURE = blocks.Picture("wide", ATTACK, b'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="400"></svg>')
BLOCKS = [
    blocks.Paragraph(ATTACK, "conclusion"),
    blocks.Cards([blocks.Card(ATTACK, ATTACK, ATTACK, [(ATTACK, ATTACK)])]),
    blocks.Section("Texts", [blocks.Sentences([ATTACK]), blocks.Sentences([ATTACK], are_warnings=True)], "on phones"),
    blocks.Section("Tables", [blocks.Table({ATTACK: [(ATTACK, ATTACK)]}, ("", ATTACK), ATTACK, "metrics blocks")]),
    blocks.Section("Pictures", [blocks.Pictures([PICTURE]), blocks.Pictures([PICTURE], are_panels=True)], "on phones"),
    blocks.PromptReplies(ATTACK, [(ATTACK, ATTACK)], {ATTACK: [(ATTACK, ATTACK, ATTACK)]}),
    blocks.list_settings("Settings", {ATTACK: ATTACK}),
]


def make_row(number: int) -> dict:
    """Even numbers are right in the first view, and odd ones in the second, where the order is reversed."""
    text = ATTACK if number == 5 else f"Text {number} ."
    return {
        "target": ("anger", "joy")[number % 2],
        "history": [{"role": "user", "emotion": None, "text": f"Prompt {number} ."}],
        "replies": [{"name": ATTACK, "text": text, "labels": ATTACK, "style": "right"}],
        "views": [
            {"title": f"row {number}: {ATTACK}", "outcome": outcome, "keys": [number * sign]}
            for outcome, sign in zip(("right", "wrong")[:: (-1) ** number], (1, -1), strict=True)
        ],
    }


ROWS = blocks.Browser(
    "Replies",
    "rows",
    [make_row(number) for number in range(70)],
    emotions=["anger", "joy"],
    orders=["largest last"],
    outcomes=["right", "wrong"],
    view_title="view of",
    view_options=["one", "other"],
    note=ATTACK,
    hint=ATTACK,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_page(file, TITLE, [*BLOCKS, ROWS])
    return file


@pytest.fixture
def page(browser, written):
    with open_page(browser, written) as page:
        yield page


def numbers(page) -> list[int]:
    titles = page.locator("#list article h3").all_inner_texts()
    return [int(re.match(r"row (\d+)", title)[1]) for title in titles]


def test_every_text_is_text_and_never_markup(page):
    assert page.title().startswith("A page & </script><script>document.title = 'taken'")
    assert page.locator("img").count() == 2
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    # 24 in the title and the blocks; of each of the 50 rows its title, its name and its labels, and one text.
    assert page.locator("body").inner_text().count("onerror") == 24 + 50 * 3 + 1


def test_it_is_one_file_without_addresses_and_without_a_script_that_it_does_not_need(written, tmp_path):
    text = written.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", text) and text.count("<script") == 2
    write_page(tmp_path / "report.html", TITLE, BLOCKS)
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_rows_are_filtered_searched_and_sorted(page):
    assert numbers(page) == list(range(50))
    page.locator("#more").click()
    assert numbers(page) == list(range(70)) and page.locator("#more").is_hidden()
    page.locator("[name=outcome]").select_option("right")
    assert numbers(page) == list(range(0, 70, 2))
    page.locator("[name=view]").select_option("other")
    assert numbers(page) == list(range(1, 70, 2))
    page.locator("[name=order]").select_option("largest last")
    assert numbers(page) == list(range(69, 0, -2))
    page.locator("[name=emotion]").select_option("anger")
    assert page.locator("#count").inner_text() == "0 of 70 rows"
    page.locator("[name=outcome]").select_option("")
    for words, found in (("PROMPT 42", [42]), ("text 42 .", [42]), ("onerror", [])):
        page.locator("[name=search]").fill(words)
        assert numbers(page) == found


def test_on_a_phone_parts_are_folded_and_ten_rows_are_shown_at_once(browser, written):
    with open_page(browser, written, viewport=PHONE) as page:
        assert page.locator("details[open]").count() == 0
        assert numbers(page) == list(range(10))
        page.locator("#more").click()
        assert numbers(page) == list(range(20))
        page.locator("summary", has_text="Pictures").click()
        assert page.locator("figure").first.is_visible()
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.locator(".panels img").bounding_box()["width"] > 330
        assert page.locator("article .answer").first.bounding_box()["width"] > 280


def test_on_a_wide_screen_only_the_settings_are_folded(page):
    assert page.locator("details[open] > summary").all_inner_texts() == ["Texts", "Pictures"]
    assert not page.locator("table.settings").is_visible()
    page.locator("summary", has_text="Settings").click()
    assert page.locator("table.settings").is_visible()


def test_in_a_dark_browser_it_is_dark(page):
    page.emulate_media(color_scheme="dark")
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    ground, ink = (sum(map(int, re.findall(r"\d+", color))) / 3 for color in colors)
    assert ground < 50 and ink > 200
