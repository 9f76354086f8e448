"""The page in a real browser, and the files beside it."""

import re
from pathlib import Path

import pytest
from browser_pages import open_page
from made_reports import (
    ENVIRONMENT,
    NO_LABELS,
    SETTINGS,
    TITLE,
    compare_made_rows,
    compare_without_classifiers,
    drop_scores,
    made_rows,
)
from test_metrics import LABELS
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.reporting import examples, report, terminal_table


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    pictures = report.write_report(compare_made_rows(), TITLE, SETTINGS, ENVIRONMENT, folder)
    assert {picture.name for picture in pictures} == {
        f"{name}.png" for name in ("emotions", "confusion", "quality", "lengths", "margins")
    }
    return folder


@pytest.fixture
def page(browser, written):
    with open_page(browser, written / "report.html") as page:
        yield page


def headings(page) -> list[str]:
    return page.locator("article h3").all_inner_texts()


def numbers(page) -> list[int]:
    return [int(re.match(r"row (\d+)", heading)[1]) for heading in headings(page)]


def test_it_shows_the_conclusion_the_metrics_and_the_plots(page, written):
    conclusion = page.locator(".conclusion").inner_text()
    assert "the difference could be noise" in conclusion
    assert conclusion in (written / "summary.md").read_text(encoding="utf-8")
    assert page.locator("table.metrics").first.locator("th[scope=col]").all_inner_texts() == [
        *("", "baseline", "adapter", "difference", "gold replies")
    ]
    assert page.locator("tr", has_text="target emotion followed").first.locator("td").count() == 4
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 5 and min(widths) > 300  # every picture is drawn
    assert page.locator("#count").inner_text() == "70 of 70 rows"
    for title, text in (("Environment", "commit"), ("Metrics by emotion", "recall, by target emotion")):
        folded = page.locator("details", has_text=title)
        folded.locator("summary").click()
        assert text in folded.inner_text()


def test_filters_and_search_and_order(page):
    page.locator("[name=emotion]").select_option("anger")
    assert numbers(page) == list(range(1, 70, 7))
    page.locator("[name=outcome]").select_option("fixed")
    assert numbers(page) == [8, 36, 64]  # anger, and divisible by four
    assert all("fixed, target probability +0." in heading for heading in headings(page))
    assert page.locator("#count").inner_text() == "3 of 70 rows"
    page.locator("[name=emotion]").select_option("")
    for outcome, first in (("broken", 1), ("both right", 2), ("both wrong", 3)):
        page.locator("[name=outcome]").select_option(outcome)
        assert numbers(page) == list(range(first, 70, 4))
    page.locator("[name=outcome]").select_option("")
    page.locator("[name=order]").select_option(index=1)
    assert numbers(page)[:3] == [0, 4, 8]  # 0.9 - index / 1000 against 0.1
    page.locator("[name=order]").select_option(index=2)
    assert numbers(page)[:3] == [1, 5, 9]


def test_three_runs_and_several_samples(browser, tmp_path):
    rows = made_rows(count=8, samples=2)
    three = {"runs/a": rows["baseline"], "runs/b": rows["adapter"], "runs/c": rows["baseline"]}
    report.write_report(
        compare_models(three, EMOTION_LABELS, LABELS, 100, seed=1), TITLE, SETTINGS, ENVIRONMENT, tmp_path
    )
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert headings(page)[1].startswith("row 0, sample 1: target neutral, fixed, target probability +0.800")
    page.locator("[name=view]").select_option("runs/c")
    assert headings(page)[1].startswith("row 0, sample 1: target neutral, both wrong, target probability 0.000")
    assert "2 comparisons with runs/a" in page.locator("ul").inner_text()
    page.close()


def test_a_report_of_the_same_metrics_has_the_same_bytes(written, tmp_path):
    report.write_report(compare_made_rows(), TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    for file in written.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def show(found, browser, folder) -> str:
    """The text of the page, folded parts opened."""
    report.write_report(found, "title", {}, {}, folder)
    with open_page(browser, folder / "report.html") as page:
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        return page.locator("body").inner_text()


@pytest.mark.parametrize("models", [("baseline", "adapter"), ("adapter",)])
def test_without_labels_and_classifiers_nothing_speaks_of_them(browser, tmp_path, capsys, models):
    found = compare_without_classifiers(NO_LABELS, *models)
    terminal_table.show_table(found, {})
    examples.show_examples(found)
    files = ["quality", "lengths", *(["margins"] if len(models) > 1 else [])]
    text = show(found, browser, tmp_path)
    assert {file.stem for file in tmp_path.glob("*.png")} == set(files)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for place in (text, summary, capsys.readouterr().out, str(list(found.flatten()))):
        assert not re.findall("emotion|gibberish|classifier|target|neutral|None|outcome", place)
        assert "distinct" in place
    assert "70 of 70 rows" in text and "Is it raining ?" in text
    if len(models) > 1:
        assert summary.startswith("**By its implicit reward against the baseline, the adapter prefers the chosen reply")
    else:
        assert summary.startswith("**The adapter ends its replies with punctuation in 100.0 % of cases, 95 % CI [94.9,")


def test_with_labels_and_no_classifier_the_targets_are_shown(browser, tmp_path):
    text = show(compare_without_classifiers(EMOTION_LABELS, "baseline", "adapter"), browser, tmp_path)
    assert "row 1: target anger\n" in text and "\ntarget\n" in text
    assert not re.findall("predicted|gibberish|classifier|outcome|followed", text)


def test_with_a_gibberish_classifier_alone_its_labels_are_shown(browser, tmp_path):
    rows = {
        model: [each | {"gibberish_label": "clean", "gold_gibberish_label": "noise"} for each in drop_scores(rows)]
        for model, rows in made_rows().items()
    }
    text = show(compare_models(rows, EMOTION_LABELS, LABELS, 100, seed=1), browser, tmp_path)
    assert "gibberish classifier" in text and "\nclean, ends with punctuation, 5 tokens\n" in text
    assert not re.findall("predicted|outcome|followed|F1", text)


GOLD_HEADER = "|  | baseline − gold replies | adapter − gold replies |"


def test_the_summary_is_a_table_of_markdown(written):
    lines = (written / "summary.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "|  | baseline | adapter | difference | gold replies |"
    gold, pairs = (table.index(line) for line in (GOLD_HEADER, "| held-out preference pairs | |"))
    assert {line.count("|") for line in table[:gold]} == {6}
    assert {line.count("|") for line in table[gold:pairs]} == {4}
    assert "| reward accuracy (chosen preferred) | 66.7 [" in "\n".join(table)


def test_what_replies_cost_stands_in_the_report_and_in_the_summary(tmp_path):
    speed = {"replies_per_second": 1.5, "new_tokens_per_second": 30.0, "generated_tokens_per_reply": 120.0}
    report.write_report(compare_made_rows(), TITLE, SETTINGS, ENVIRONMENT, tmp_path, throughput={"best of 6": speed})
    line = "best of 6: 1.50 replies/s, 30.0 new tokens/s, 120.0 generated tokens per reply"
    assert line in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"- {line}" in (tmp_path / "summary.md").read_text(encoding="utf-8")
