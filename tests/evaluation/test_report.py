"""The page in a real browser, and the files beside it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser_pages import PHONE, assert_fits_a_phone, open_page
from test_metrics import LABELS, row

from response_generator.constants import EMOTIONS
from response_generator.evaluation import cards, plots, report
from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.estimates import Estimate
from response_generator.evaluation.metrics import METRICS

ENVIRONMENT = {"commit": '"c0ffee"'}
ATTACK = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> & \u2028"
TITLE = "Evaluation: demo/evaluate (adapter dpo, baseline <b>sft</b>)"
SETTINGS = {"seed": "42", "wandb.notes": '"<b>bold</b>"'}


def made_rows(count: int = 70, samples: int = 1) -> dict[str, list[dict]]:
    """Row 0 fixed, 1 broken, 2 both right, 3 both wrong, and so on; the target of row n is the n-th emotion in turn."""
    rows = {"baseline": [], "adapter": []}
    for index in range(count):
        target = EMOTIONS[index % 7]
        wrong = EMOTIONS[(index + 1) % 7]
        for sample in range(samples):
            for model, right in (("baseline", index % 4 in (1, 2)), ("adapter", index % 4 in (0, 2))):
                rows[model].append(
                    row(
                        index,
                        target,
                        target if right else wrong,
                        sample,
                        target_probability=0.9 - index / 1000 if right else 0.1,
                        response=ATTACK if index == 5 else f"The {model} says {index} .",
                        gold_emotion=target,
                        new_tokens=5 + index % 9,
                    )
                )
    return rows


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
    for title, text in (
        ("Settings", 'seed\t42\nwandb.notes\t"<b>bold</b>"'),
        ("Environment", 'commit\t"c0ffee"'),
        ("Metrics by emotion", "recall, by target emotion"),
    ):
        folded = page.locator("details", has=page.locator("summary", has_text=title)).locator("table")
        assert not folded.is_visible()
        page.locator("summary", has_text=title).click()
        assert text in folded.inner_text()


def test_fifty_rows_at_once(page):
    assert numbers(page) == list(range(50))
    page.locator("#more").click()
    assert numbers(page) == list(range(70))
    assert page.locator("#more").is_hidden()


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
    page.locator("[name=search]").fill("ADAPTER says 42")
    assert numbers(page) == [42]
    page.locator("[name=search]").fill("")
    page.locator("[name=order]").select_option(index=1)
    assert numbers(page)[:3] == [0, 4, 8]  # 0.9 - index / 1000 against 0.1
    page.locator("[name=order]").select_option(index=2)
    assert numbers(page)[:3] == [1, 5, 9]


def test_replies_are_text_and_never_markup(page):
    page.locator("[name=search]").fill("onerror")
    assert numbers(page) == [5]
    assert page.locator("article .answer p").nth(1).inner_text().startswith("</script><script>document.title")
    assert page.title() == page.locator("h1").inner_text() == TITLE
    assert page.locator("article img").count() == 0


def compare_made_rows() -> Comparison:
    return compare_models(made_rows(), LABELS, 500, seed=1, margins=np.linspace(-1, 2, 30))


def compare_four_runs() -> Comparison:
    """Four models with two samples a prompt, the last one trained three times."""
    rows = made_rows(count=8, samples=2)
    recipe = [row | {"run": run} for row in rows["adapter"] for run in range(3)]
    recipe.sort(key=lambda row: (row["index"], row["run"], row["sample"]))
    folder = "a_folder_with_a_long_name/evaluate"
    return compare_models(
        {"runs/a": rows["baseline"], folder: rows["adapter"], "runs/c": rows["baseline"], "dpo": recipe},
        LABELS,
        100,
        seed=1,
    )


def test_it_is_readable_on_a_phone(page):
    assert_fits_a_phone(page, plots.draw_pictures(compare_made_rows()).values())
    assert page.locator("article").first.bounding_box()["width"] > 300


def test_on_a_phone_tables_and_plots_are_folded_but_not_the_claim_the_cards_and_the_replies(browser, written):
    with open_page(browser, written / "report.html", viewport=PHONE) as page:
        assert page.locator("summary").all_inner_texts() == [
            *("Metrics", "Metrics by emotion", "Plots", "Settings", "Environment")
        ]
        assert page.locator("details[open]").count() == 0
        for part in (".conclusion", ".card >> nth=3", "figure >> nth=0", "ul", "#filters", "article >> nth=0"):
            assert page.locator(part).is_visible(), part
        assert not page.locator("figure").nth(1).is_visible()
        assert numbers(page) == list(range(10))
        assert page.evaluate("document.documentElement.scrollHeight") < 10 * PHONE["height"]
        page.locator("#more").click()
        assert numbers(page) == list(range(20))
        page.locator("summary", has_text="Plots").click()
        assert page.locator("figure").nth(1).is_visible()


def test_on_a_wide_screen_metrics_and_plots_are_open(page):
    assert page.locator("details[open] > summary").all_inner_texts() == ["Metrics", "Plots"]


def test_no_line_of_a_conclusion_is_broken_inside_of_an_interval(browser, written):
    with open_page(browser, written / "report.html", viewport={"width": 320, "height": 844}) as page:
        unbroken = page.locator(".conclusion .unbroken, .card .unbroken, li .unbroken")
        texts = unbroken.all_inner_texts()
        text = " ".join(page.locator(".conclusion, .card .note, li").all_inner_texts())
        for form in (r"\[[^]]*\]", r"p = \S+\d", r" p \d\S+\d", r"n = \d+"):
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


def test_a_name_with_brackets_or_markup_is_text_in_the_conclusions(browser, tmp_path):
    rows = made_rows()
    found = compare_models({"runs/[a": rows["baseline"], "<b>b</b>": rows["adapter"]}, LABELS, 100, seed=1)
    report.write_report(found, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html", viewport=PHONE) as page:
        assert "whether <b>b</b> follows the target emotion more or less often than runs/[a: the" in (
            page.locator(".conclusion").inner_text()
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("models", [1, 4])
def test_one_model_and_four_are_readable_on_a_phone(browser, tmp_path, models):
    found = compare_four_runs() if models == 4 else compare_models({"adapter": made_rows()["adapter"]}, LABELS, 100, 1)
    report.write_report(found, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        assert_fits_a_phone(page, plots.draw_pictures(found).values())


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
    p = found["difference/emotion_accuracy/p"]
    assert cards["target emotion followed"].endswith(f"p {p:.4f}: could be noise gold replies 100.0 %")


def test_a_card_says_why_a_difference_whose_interval_excludes_0_could_be_noise():
    accuracy = METRICS[0]
    by_test = cards.describe_difference(Estimate(0.074, 0.019, 0.148, 0.125), accuracy, 54)
    assert by_test == "+7.4 points [1.9, 14.8] p 0.1250: could be noise, because " + (
        "p is not below 0.05, although the interval excludes 0"
    )
    by_interval = cards.describe_difference(Estimate(0.01, -0.02, 0.04, 0.6), accuracy, 54)
    assert by_interval == "+1.0 points [-2.0, 4.0] p 0.6000: could be noise"


def test_cards_of_one_model_and_of_four(browser, tmp_path):
    report.write_report(compare_four_runs(), TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        rows = page.locator(".card").first.locator("dl div")
        assert [" ".join(text.split()) for text in rows.all_inner_texts()][0] == "runs/a 50.0 %"
        assert rows.all_inner_texts()[2].split()[:3] == ["runs/c", "50.0", "%"]
        assert rows.count() == 5
    alone = compare_models({"adapter": made_rows()["adapter"]}, LABELS, 100, 1)
    report.write_report(alone, TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    with open_page(browser, tmp_path / "report.html") as page:
        low, high = (alone.flatten()[f"adapter/emotion_accuracy/{bound}"] * 100 for bound in ("low", "high"))
        assert read_cards(page)["target emotion followed"] == (
            f"target emotion followed 50.0 % [{low:.1f}, {high:.1f}] gold replies 100.0 %"
        )


def test_in_a_dark_browser_it_is_dark(page):
    page.emulate_media(color_scheme="dark")
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    ground, ink = (sum(map(int, re.findall(r"\d+", color))) / 3 for color in colors)
    assert ground < 50 and ink > 200


def test_three_runs_and_several_samples(browser, tmp_path):
    rows = made_rows(count=8, samples=2)
    three = {"runs/a": rows["baseline"], "runs/b": rows["adapter"], "runs/c": rows["baseline"]}
    report.write_report(compare_models(three, LABELS, 100, seed=1), TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert headings(page)[1].startswith("row 0, sample 1: target neutral, fixed, target probability +0.800")
    page.locator("[name=model]").select_option("runs/c")
    assert headings(page)[1].startswith("row 0, sample 1: target neutral, both wrong, target probability 0.000")
    assert "2 comparisons with runs/a" in page.locator("ul").inner_text()
    page.close()


def test_the_page_holds_its_rows_as_json_and_no_address(written):
    text = (written / "report.html").read_text(encoding="utf-8")
    (rows,) = re.findall(r'<script type="application/json" id="rows">(.*?)</script>', text, re.DOTALL)
    assert json.loads(rows)["rows"][5]["replies"][1]["text"] == ATTACK
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", text)


def test_a_report_of_the_same_metrics_has_the_same_bytes(written, tmp_path):
    report.write_report(compare_made_rows(), TITLE, SETTINGS, ENVIRONMENT, tmp_path)
    for file in written.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_summary_is_a_table_of_markdown(written):
    lines = (written / "summary.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "|  | baseline | adapter | difference | gold replies |"
    assert {line.count("|") for line in table[: table.index("| held-out preference pairs | |")]} == {6}
    assert "| reward accuracy (chosen preferred) | 66.7 [" in "\n".join(table)
