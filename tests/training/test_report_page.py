"""report.html of a training run in a real browser, and training.png."""

import json
import re
from pathlib import Path

import pytest
from browser_pages import open_page
from conftest import read_json, read_lines
from PIL import Image
from script_runs import run_here

import fine_tune_dpo
from response_generator import sft
from response_generator.training.monitoring import curves, report_page

SAMPLES = {"every_steps": 2, "prompts": 2, "max_new_tokens": 8}


@pytest.fixture(scope="module")
def dpo_run(tiny, tmp_path_factory) -> Path:
    """A run whose learning rate is so high that a health check warns."""
    folder = tmp_path_factory.mktemp("dpo")
    values = tiny.dpo(folder / "some" / "run", sample_replies=SAMPLES)
    values["dpo"] |= {"learning_rate": 0.05, "eval_strategy": "steps", "eval_steps": 2}
    assert run_here(fine_tune_dpo.main, values, folder) == 0
    return folder / "some" / "run"


@pytest.fixture(scope="module")
def sft_run(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    assert run_here(sft.main, tiny.sft(folder / "run", sample_replies=SAMPLES), folder) == 0
    return folder / "run"


@pytest.fixture
def page(browser, dpo_run):
    with open_page(browser, dpo_run / "report.html") as page:
        yield page


def test_the_cards_are_the_metrics(page, dpo_run):
    metrics = read_json(dpo_run / "metrics.json")
    cards = page.locator(".card")
    assert cards.locator("h2").all_inner_texts() == ["reward accuracy", "reward margin", "loss", "speed"]
    assert cards.locator(".figure").all_inner_texts() == [
        f"{metrics['eval_rewards/accuracies']:.0%}",
        f"{metrics['eval_rewards/margins']:.3f}",
        f"{metrics['initial_loss']:.3f} → {metrics['last_quarter/loss']:.3f}",
        f"{metrics['pairs_per_second']:.1f} pairs/s",
    ]
    assert f"{metrics['last_quarter/rewards/accuracies']:.0%}" in cards.first.inner_text()
    assert page.locator("h1").inner_text() == "DPO: some/run"


def test_the_figures_name_what_is_expected_of_the_first_loss(dpo_run):
    metrics = read_json(dpo_run / "metrics.json")
    card = (dpo_run / "adapter" / "README.md").read_text(encoding="utf-8")
    title = "loss before the first step (ln 2 = 0.6931 where policy and reference are the same)"
    assert f"| {title} | {metrics['initial_loss']:.4f} |" in card
    assert not any(name.startswith("initial_loss/") for name in metrics)


def test_the_card_of_a_combined_loss_has_its_parts():
    metrics = {"initial_loss": 1.1, "initial_loss/sigmoid": 0.6931, "initial_loss/sft": 2.03, "last_quarter/loss": 0.9}
    card = report_page.build_loss_card(metrics)
    assert card.value == "1.100 → 0.900"
    assert card.rows == [
        ("sigmoid, at the start", "0.693"),
        ("sft, at the start", "2.030"),
    ]


def test_every_panel_is_drawn(page):
    assert page.locator("figure").count() == 6
    sizes = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
    assert min(min(size) for size in sizes) > 150
    assert page.locator("img").nth(3).get_attribute("alt").startswith("reward accuracy against steps: training from ")


def test_the_warnings_are_there_with_their_steps(page, dpo_run):
    warnings = read_lines(dpo_run / "warnings.jsonl")
    assert warnings and warnings[0]["check"] == "margins"
    assert page.locator(".warnings li").all_inner_texts() == [row["message"] for row in warnings]
    assert "dotted: the step of a warning" in page.locator("body").inner_text()


def test_the_samples_are_shown_by_prompt(page, dpo_run):
    rows = read_lines(dpo_run / "samples.jsonl")
    articles = page.locator("article")
    assert articles.count() == 2
    text = articles.first.inner_text()
    own = [row for row in rows if row["index"] == rows[0]["index"]]
    assert rows[0]["prompt"][-1]["content"]["dialog"] in text and f"target emotion: {rows[0]['target_emotion']}" in text
    # The browser shows runs of spaces and control characters in its own way, so letters are compared.
    letters = re.sub(r"\W", "", text)
    assert all(re.sub(r"\W", "", row["response"]) in letters for row in own)


def test_data_settings_and_environment_are_there(page):
    table = page.locator("table.settings").first.inner_text()
    assert re.search(r"rows used\s+12", table) and "chosen is the longer reply" in table
    assert page.locator("table.numbers").first.locator("th[scope=row]").all_inner_texts() == [
        *("prompt", "chosen", "rejected", "whole")
    ]
    for summary in page.locator("summary").all():
        summary.click()
    text = page.locator("body").inner_text()
    assert "dpo.learning_rate" in text and "packages.torch" in text


def test_sft_has_its_own_cards_and_panels(browser, sft_run):
    with open_page(browser, sft_run / "report.html") as page:
        titles = page.locator(".card h2").all_inner_texts()
        assert titles == ["token accuracy", "loss (nats a token)", "loss", "speed"]
        assert page.locator("figure").count() == 4
        assert page.locator("article").count() == 2
        assert "reference" not in page.locator("article").first.inner_text()
        text = page.locator("body").inner_text()
        assert "The health checks found nothing to warn of; they know the loss nll alone" in text


def test_the_picture_has_all_panels(dpo_run):
    width, height = Image.open(dpo_run / "training.png").size
    assert width > 1400 and height > 700


def test_the_running_mean():
    assert curves.running_mean([3.0, 1.0, 2.0, 6.0], 3) == [3.0, 2.0, 2.0, 3.0]
    # At least 3 log lines, and a fifteenth of many.
    assert curves.count_window_lines([{"loss": 1.0}, {"eval_loss": 1.0}]) == 3
    assert curves.count_window_lines([{"loss": 1.0}] * 300) == 20


def test_what_is_drawn_is_the_log():
    log = [
        {"step": 4, "loss": 2.0},
        {"step": 4, "eval_loss": 1.5},
        {"step": 8, "loss": 1.0},
        {"step": 8, "eval_loss": 1},
    ]
    panel = curves.list_dpo_panels(has_plain_loss=True)[0]
    (axes,) = curves.draw_one(log, panel, [{"step": 8, "message": "x"}]).axes
    raw, smoothed, held_out, start, warning = [line.get_xydata().tolist() for line in axes.lines]
    assert raw == [[4, 2.0], [8, 1.0]] and smoothed == [[4, 2.0], [8, 1.5]] and held_out == [[4, 1.5], [8, 1.0]]
    assert start[0][1] == pytest.approx(0.6931, abs=1e-4) and warning[0][0] == 8
    assert curves.list_dpo_panels(has_plain_loss=False)[0].line is None
    assert curves.describe_panel(log, panel) == "loss against steps: training from 2 to 1, held out from 1.5 to 1"


def test_equal_replies_of_consecutive_steps_are_one_row():
    def row(step: int, response: str) -> dict:
        return {"step": step, "response": response, "new_tokens": len(response)}

    rows = [row(0, "a"), row(5, "a"), row(10, "b"), row(15, "a")]
    merged = report_page.merge_equal(rows)
    assert [(each["steps"], each["response"]) for each in merged] == [("0 to 5", "a"), ("10", "b"), ("15", "a")]


def test_of_many_replies_some_are_shown_with_the_first_and_the_last():
    assert report_page.spread(list(range(9)), 5) == [0, 2, 4, 6, 8]
    assert report_page.spread([1, 2, 3], 3) == [1, 2, 3]


def test_a_run_without_samples_log_or_held_out_rows_has_a_page(tiny, browser, tmp_path):
    values = json.loads(json.dumps(tiny.dpo(tmp_path / "run", eval_dataset=None)))
    values["dpo"] |= {"logging_steps": 100, "max_steps": 2}
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    with open_page(browser, tmp_path / "run" / "report.html") as page:
        assert page.locator(".card .figure").first.inner_text() == "not logged"
        assert page.locator("article").count() == 0
