"""How the page looks on a wide and on a narrow screen, and its cards."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from browser_pages import PHONE, assert_fits_a_phone, open_page
from made_reports import (
    ENVIRONMENT,
    MANY_LABELS,
    NO_LABELS,
    SETTINGS,
    TITLE,
    TWO_LABELS,
    compare_four_runs,
    compare_made_rows,
    compare_without_classifiers,
    made_rows,
)
from test_metrics import LABELS
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.metrics import METRICS
from response_generator.evaluation.reporting import cards, plots, report
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.labels import Labels


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report.write_report(compare_made_rows(), TITLE, SETTINGS, ENVIRONMENT, folder)
    return folder


@pytest.fixture
def page(browser, written):
    with open_page(browser, written / "report.html") as page:
        yield page


def read_cards(page) -> dict[str, str]:
    return {
        card.locator("h2").inner_text(): " ".join(card.inner_text().split()) for card in page.locator(".card").all()
    }


def test_the_first_screen_shows_the_claim_four_key_figures_and_a_plot(page):
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.locator(".card").count() == 4
    for part in (".conclusion", ".card >> nth=3", "figure >> nth=0"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 900, part


def test_the_cards_hold_the_figures_of_metrics_json(page):
    found = compare_made_rows().flatten()
    cards = read_cards(page)
    assert list(cards) == [
        *("target emotion followed", "tokens per reply", "perplexity of the gold replies", "clean replies")
    ]
    for title, name, scale, digits, unit in (
        ("target emotion followed", "emotion_accuracy", 100, 1, " %"),
        ("tokens per reply", "mean_new_tokens", 1, 2, ""),
        ("perplexity of the gold replies", "gold_perplexity", 1, 2, ""),
        ("clean replies", "gibberish/clean", 100, 1, " %"),
    ):
        figures = {
            key: f"{value * scale:.{digits}f}" for key, value in found.items() if key.partition("/")[2].startswith(name)
        }
        expected = f"{title} {figures[f'baseline/{name}']} → {figures[f'adapter/{name}']}{unit} +"
        expected += figures[f"difference/{name}"] + (" points" if unit else "")
        if f"difference/{name}/low" in figures:
            expected += f" [{figures[f'difference/{name}/low']}, {figures[f'difference/{name}/high']}]"
        assert cards[title].startswith(expected)
    p = found["difference/emotion_accuracy/p_corrected"]
    assert cards["target emotion followed"].endswith(f"] corrected p = {p:.4f}: could be noise gold replies 100.0 %")


def test_a_card_says_why_a_difference_whose_interval_excludes_0_could_be_noise():
    accuracy = METRICS[0]
    by_test = cards.describe_difference(Estimate(0.074, 0.019, 0.148, 0.02, 0.26), accuracy)
    assert by_test == "+7.4 points [1.9, 14.8] corrected p = 0.2600: could be noise, because " + (
        "the corrected p is not below 0.05, although the interval excludes 0"
    )
    by_interval = cards.describe_difference(Estimate(0.01, -0.02, 0.04, 0.6, 1.0), accuracy)
    assert by_interval == "+1.0 points [-2.0, 4.0] corrected p = 1.0000: could be noise"


def test_cards_of_one_model_and_of_four(browser, tmp_path):
    report.write_report(compare_four_runs(), TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        rows = page.locator(".card").first.locator("dl div")
        assert [" ".join(text.split()) for text in rows.all_inner_texts()][0] == "runs/a 50.0 %"
        assert rows.all_inner_texts()[2].split()[:3] == ["runs/c", "50.0", "%"]
        assert rows.count() == 5
    alone = compare_models({"adapter": made_rows()["adapter"]}, EMOTION_LABELS, LABELS, 100, 1)
    report.write_report(alone, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        low, high = (alone.flatten()[f"adapter/emotion_accuracy/{bound}"] * 100 for bound in ("low", "high"))
        assert read_cards(page)["target emotion followed"] == (
            f"target emotion followed 50.0 % [{low:.1f}, {high:.1f}] gold replies 100.0 %"
        )


def test_it_is_readable_on_a_phone(page):
    assert_fits_a_phone(page, plots.draw_plots(compare_made_rows()))
    assert page.locator("article").first.bounding_box()["width"] > 300


def test_on_a_phone_tables_and_plots_are_folded_but_not_the_claim_the_cards_and_the_replies(browser, written):
    with open_page(browser, written / "report.html", viewport=PHONE) as page:
        assert page.locator("summary").all_inner_texts() == [
            *(
                "Metrics",
                "The emotion classifier",
                "Metrics by emotion",
                "Differences from the gold replies",
                "Plots",
                "Settings",
                "Environment",
            )
        ]
        assert page.locator("details[open]").count() == 0
        for part in (".conclusion", ".card >> nth=3", "figure >> nth=0", "ul", "#filters", "article >> nth=0"):
            assert page.locator(part).is_visible(), part
        assert not page.locator("figure").nth(1).is_visible()
        assert page.evaluate("document.documentElement.scrollHeight") < 10 * PHONE["height"]


def test_on_a_wide_screen_metrics_and_plots_are_open(page):
    assert page.locator("details[open] > summary").all_inner_texts() == [
        *("Metrics", "The emotion classifier", "Plots")
    ]


def test_no_line_of_a_conclusion_is_broken_inside_of_an_interval(browser, written):
    with open_page(browser, written / "report.html", viewport={"width": 320, "height": 844}) as page:
        unbroken = page.locator(".conclusion .unbroken, .card .unbroken, li .unbroken")
        texts = unbroken.all_inner_texts()
        text = " ".join(page.locator(".conclusion, .card .note, li").all_inner_texts())
        for form in (r"\[[^]]*\]", r"p = \S+\d", r"n = \d+"):
            found = [match.strip() for match in re.findall(form, text)]
            assert found and set(found) <= set(texts), form
        assert page.evaluate("[...document.querySelectorAll('.unbroken')].every(e => e.getClientRects().length === 1)")


def test_each_number_with_its_sign_is_kept_unbroken():
    sentence = "Worse & [a: 67.4 -> 89.8 %, 95 % CI of it [-0.3, 31.4], p = 8.4e-06, n = 1,260."
    marked = report.keep_unbroken(sentence)
    assert re.findall(r"<span class=\"unbroken\">(.*?)</span>", marked) == [
        *("67.4 -&gt; 89.8 %", "95 % CI", "[-0.3, 31.4]", "p = 8.4e-06", "n = 1,260")
    ]
    assert marked.startswith("Worse &amp; [a: <span")


@pytest.mark.parametrize("labels", [TWO_LABELS, MANY_LABELS, NO_LABELS], ids=["two", "many", "none"])
def test_own_labels_are_readable_on_a_phone(browser, tmp_path, labels):
    found = compare_made_rows(labels) if labels else compare_without_classifiers(labels, "baseline", "adapter")
    report.write_report(found, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        assert_fits_a_phone(page, plots.draw_plots(found))


def test_names_of_many_labels_do_not_touch_in_the_plots():
    found = compare_made_rows(MANY_LABELS)
    for figure in (plots.plot_emotions(found), plots.plot_confusion(found)):
        figure.draw_without_rendering()
        for axes in figure.axes:
            # A turned name is as wide as its text is high.
            size = max(label.get_fontsize() for label in axes.get_xticklabels()) / 72 * figure.dpi
            places = axes.transData.transform([(place, 0) for place in axes.get_xticks()])[:, 0]
            assert np.diff(places).min() > size


def test_titles_of_the_form_do_not_touch_in_the_plot():
    rows = {
        model: [row | {"names_emotion": False, "gold_names_emotion": False} for row in each]
        for model, each in made_rows(70).items()
    }
    classes = ["clean", "mild gibberish", "word salad", "noise"]
    figure = plots.plot_form(compare_models(rows, EMOTION_LABELS, classes, 100, seed=1))
    figure.draw_without_rendering()
    extents = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(extents) == 9
    assert all(left.x1 < right.x0 for left, right in pairwise(extents))


def test_of_too_many_labels_the_most_frequent_ones_are_plotted():
    labels = Labels(tuple(f"${number}$" for number in range(40)), None)
    rows = [row for row in made_rows(80, labels=labels)["adapter"] if row["index"] not in (3, 5)]
    found = compare_models({"adapter": rows}, labels, [], 100, seed=1)
    names = plots.pick_labels(found)
    assert len(names) == plots.MAX_LABELS and not {"$3$", "$5$"} & set(names)
    axes = plots.plot_confusion(found).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == [r"\$0\$", r"\$1\$"]
    assert axes.get_title() == "adapter, the 30 most frequent of 40 labels"


@pytest.mark.parametrize("models", [1, 4])
def test_one_model_and_four_are_readable_on_a_phone(browser, tmp_path, models):
    found = (
        compare_four_runs()
        if models == 4
        else compare_models({"adapter": made_rows()["adapter"]}, EMOTION_LABELS, LABELS, 100, 1)
    )
    report.write_report(found, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        assert_fits_a_phone(page, plots.draw_plots(found))
