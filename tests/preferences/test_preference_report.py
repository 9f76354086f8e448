"""The report of preference data in a real browser."""

import re

import pytest
from browser_pages import assert_fits_a_phone, open_page
from pairs import make_pair
from tiny_models import EMOTION_LABELS

from response_generator.data.datasets import ReplyLabels
from response_generator.preferences import report
from response_generator.preferences.description import describe_pairs
from response_generator.preferences.description_table import build_rows
from response_generator.preferences.pair_browser import build_row
from response_generator.preferences.plots import draw_plots

TITLE = "Preference pairs: demo/preferences (adapter <b>sft</b>)"
FAILED = [
    {
        "index": 9,
        "target_emotion": "anger",
        "last_turn": "I lost it .",
        "attempts": 5,
        "failures": {"min_margin": 3, "same": 2},
    }
]


def make_pairs() -> list:
    """Margins 0 to 59, in an order of their own; chosen is longer by the row's number."""
    pairs = [
        make_pair(index, "a" * (index + 3), "b" * 3, chosen_score=float(index * 7 % 60), rejected_score=0.0)
        for index in range(60)
    ]
    pairs[6] = make_pair(6, prompt="[INST] a text prompt [/INST] anger ", chosen_score=42.0, rejected_score=0.0)
    return pairs


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    pairs = make_pairs()
    pictures = report.write_report(
        TITLE,
        pairs,
        build_rows(describe_pairs(pairs, [], EMOTION_LABELS)),
        FAILED,
        {"seed": "42"},
        EMOTION_LABELS,
        folder,
    )
    assert [picture.name for picture in pictures] == ["margins.png", "scores.png", "lengths.png"]
    return folder


@pytest.fixture
def page(browser, written):
    with open_page(browser, written / "report.html") as page:
        yield page


def numbers(page) -> list[int]:
    return [int(re.match(r"row (\d+)", text)[1]) for text in page.locator("article h3").all_inner_texts()]


def test_it_shows_description_plots_and_pairs(page):
    assert page.locator("tr", has_text="margin not above 0").locator("td").inner_text() == "1.7%"
    assert min(page.evaluate("[...document.images].map(image => image.naturalWidth)")) > 300
    assert numbers(page) == list(range(50))
    assert "row 8, target happiness, margin 56.000" in page.locator("article h3").all_inner_texts()
    assert page.title() == page.locator("h1").inner_text() == TITLE  # the texts of the data are no markup


def test_order_and_emotion(page):
    page.locator("[name=order]").select_option("largest margin first")
    assert numbers(page)[:3] == [17, 34, 51]  # margins 59, 58, 57
    page.locator("[name=order]").select_option("chosen much longer first")
    assert 59 in numbers(page)[:2]
    page.locator("[name=emotion]").select_option("anger")
    assert numbers(page) == [6]
    assert "prompt: [INST] a text prompt" in page.locator("article").inner_text()


def test_failed_prompts_are_listed_with_their_reasons(page):
    page.locator("summary", has_text="Prompts without a pair (1)").click()
    row = page.locator("details tbody tr").first
    assert row.locator("td").all_inner_texts() == ["anger", "5", "min_margin 3, same 2"]


def test_it_is_readable_on_a_phone(page):
    assert_fits_a_phone(page, draw_plots(make_pairs()))


def test_without_scores_there_are_no_margins(browser, tmp_path):
    pairs = [make_pair(index, chosen_score=None, rejected_score=None) for index in range(3)]
    pictures = report.write_report(
        TITLE, pairs, build_rows(describe_pairs(pairs, [], EMOTION_LABELS)), [], {}, EMOTION_LABELS, tmp_path
    )
    assert [picture.name for picture in pictures] == ["lengths.png"]
    with open_page(browser, tmp_path / "report.html") as page:
        assert page.locator("[name=order] option").count() == 3
        assert page.locator("article h3").first.inner_text() == "row 0, target happiness"


def test_a_reply_has_the_labels_of_the_classifiers_that_there_were():
    labels = [
        build_row(make_pair(chosen_labels=ReplyLabels(*found)), EMOTION_LABELS)["replies"][0]["labels"]
        for found in (("happiness", "clean", 0.9), ("happiness", None, None), (None, "clean", 0.9))
    ]
    assert labels == [f"score 10.000, 20 characters, {names}" for names in ("happiness, clean", "happiness", "clean")]
