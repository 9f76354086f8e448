"""The raters' page in a real browser: answers, by mouse and keys, what is kept, saved and loaded."""

import json
import re

import pytest
from browser_pages import MIN_TOUCH_HEIGHT, PHONE, PHONE_WIDTH, watch_page
from conftest import read_json
from made_blind_tests import FIRST, SECOND, made_rows, run_blind_test, to_plain_rows, write_run
from made_reports import MANY_LABELS

WIDE = {"width": 1200, "height": 900}
HEIGHTS = "[...document.querySelectorAll('button, input')].map(each => each.getBoundingClientRect().height)"
CHOSEN = "[...document.querySelectorAll('#questions :checked')].map(each => each.value)"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with a sheet of three pairs."""
    run = write_run(tmp_path / "run", made_rows())
    assert run_blind_test(monkeypatch, run, "--pairs", "3") == 0
    return run


@pytest.fixture
def page(browser, run):
    yield from open_sheet(browser, run, WIDE)


def open_sheet(browser, run, viewport):
    """The page, opened from disk without a network; afterwards nothing may have been loaded from elsewhere."""
    address = (run / "blind_test" / "blind_test.html").as_uri()
    with watch_page(browser, address, offline=True, viewport=viewport) as (page, addresses):
        yield page
    assert all(each == address or each.startswith(("data:", "blob:")) for each in addresses)


def choose(page, name: str, option: str) -> None:
    page.locator(f"input[name={name}][value='{option}']").check()


def read_count(page) -> str:
    return page.locator("#count").inner_text()


def save(page, file, name: str) -> str:
    """The name of the file that the browser writes."""
    page.locator("[name=rater]").fill(name)
    with page.expect_download() as waiting:
        page.locator("button", has_text="Save answers").click()
    waiting.value.save_as(file)
    return waiting.value.suggested_filename


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_answers_survive_a_reload_are_saved_and_scored(viewport, browser, run, tmp_path, monkeypatch):
    for page in open_sheet(browser, run, viewport):
        assert read_count(page) == "dialogue 1 of 3; 0 answered"
        for name, option in (("label_A", "fear"), ("label_B", "cannot tell"), ("preference", "B")):
            choose(page, name, option)
        page.locator("#next").click()
        for name, option in (("label_A", "anger"), ("label_B", "neutral"), ("preference", "equally good")):
            choose(page, name, option)
        page.locator("[name=rater]").fill("Ann B. / Ünal")
        page.reload()
        assert read_count(page) == "dialogue 2 of 3; 2 answered"
        assert page.evaluate(CHOSEN) == ["anger", "neutral", "equally good"]
        assert page.locator("[name=rater]").input_value() == "Ann B. / Ünal"
        assert save(page, tmp_path / "saved.json", " Ann B. / Ünal ") == "answers-Ann_B_Ünal.json"
        assert page.locator("#message").inner_text().endswith("2 of 3 dialogues are answered.")
    assert read_json(tmp_path / "saved.json") == {
        "sheet": read_json(run / "blind_test" / "key.json")["sheet"],
        "rater": "Ann B. / Ünal",
        "answers": [
            {"label_A": "fear", "label_B": "cannot tell", "preference": "B"},
            {"label_A": "anger", "label_B": "neutral", "preference": "equally good"},
            {},
        ],
    }
    assert run_blind_test(monkeypatch, run, "--score", tmp_path / "saved.json") == 0
    scores = read_json(run / "blind_test" / "scores.json")
    preferred = read_json(run / "blind_test" / "key.json")["pairs"][0]["B"]
    wins, losses = int(preferred == SECOND), int(preferred == FIRST)
    assert scores["complete"] == {"Ann B. / Ünal": 2}
    assert [scores["preference"][name] for name in ("wins", "losses", "ties")] == [wins, losses, 1]


def test_number_keys_answer_the_marked_question_and_letters_turn_the_pages(page):
    replies = page.locator(".answer p").all_inner_texts()
    for key in "470":  # the fourth label for A, the seventh for B, and cannot tell
        page.keyboard.press(key)
    assert page.evaluate(CHOSEN) == ["fear", "surprise", "cannot tell"]
    page.keyboard.press("Enter")  # the button for the next dialogue has the focus
    assert read_count(page) == "dialogue 2 of 3; 1 answered"
    page.keyboard.press("8")  # there is no eighth label
    page.keyboard.press("n")
    page.keyboard.press("n")
    assert read_count(page) == "dialogue 3 of 3; 1 answered"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert page.locator(".answer p").all_inner_texts() == replies
    page.locator("[name=rater]").press_sequentially("1n0")
    assert read_count(page) == "dialogue 1 of 3; 1 answered"
    assert page.evaluate(CHOSEN) == ["fear", "surprise", "cannot tell"]


def test_the_tab_and_arrow_keys_answer_as_in_any_form(page):
    page.locator("input[name=label_B]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(CHOSEN) == ["anger"]
    page.keyboard.press("3")  # the question with the focus is the marked one
    assert page.evaluate(CHOSEN) == ["disgust"]


def test_the_end_is_announced_and_a_button_leads_to_what_is_missing(page):
    for key in "n111n111":  # the second and the third dialogue
        page.keyboard.press(key)
    page.locator("#unanswered").click()
    assert read_count(page) == "dialogue 1 of 3; 2 answered"
    for key in "111":
        page.keyboard.press(key)
    assert page.locator("#message").inner_text() == "All dialogues are answered. Save your answers."
    assert page.locator("#unanswered").is_hidden()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#clear").click()
    assert (read_count(page), page.evaluate(CHOSEN)) == ("dialogue 1 of 3; 0 answered", [])
    assert page.locator("#unanswered").is_visible()


def test_saved_answers_are_loaded_again_and_others_are_refused(page, tmp_path):
    choose(page, "label_A", "fear")
    page.locator("button", has_text="Save answers").click()
    assert page.locator("#message").inner_text().startswith("Write your name first")
    save(page, tmp_path / "saved.json", "ann")
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#clear").click()
    page.locator("[name=file]").set_input_files(tmp_path / "saved.json")
    page.locator("#message", has_text="Loaded").wait_for()
    assert (page.evaluate(CHOSEN), page.locator("[name=rater]").input_value()) == (["fear"], "ann")
    saved = read_json(tmp_path / "saved.json")
    for content, words in (
        (json.dumps(saved | {"sheet": "other"}), "holds no answers to these dialogues"),
        (json.dumps(saved | {"answers": [{}]}), "holds no answers to these dialogues"),
        ("{", "holds no saved answers"),
    ):
        (tmp_path / "other.json").write_text(content, encoding="utf-8")
        page.locator("[name=file]").set_input_files(tmp_path / "other.json")
        page.locator("#message", has_text=words).wait_for()
        assert page.evaluate(CHOSEN) == ["fear"]
    unknown = {"label_A": "joy", "label_B": "fear", "preference": "A"}  # there is no such label
    page.once("dialog", lambda dialog: dialog.accept())
    (tmp_path / "other.json").write_text(json.dumps(saved | {"answers": [unknown] * 3}), encoding="utf-8")
    page.locator("[name=file]").set_input_files(tmp_path / "other.json")
    page.locator("#message", has_text="Loaded 0 answered dialogues.").wait_for()
    assert page.evaluate(CHOSEN) == ["fear", "A"]


def test_a_browser_that_keeps_nothing_says_so(page):
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full'); }; }")
    choose(page, "label_A", "fear")
    assert page.locator("#message").inner_text().startswith("This browser keeps no answers.")


@pytest.mark.parametrize("labels", ["seven", "many", "none"])
def test_it_is_readable_on_a_phone(labels, browser, tmp_path, monkeypatch):
    if labels == "many":
        rows = [each | {"gold_emotion": "joy"} for each in made_rows(targets=MANY_LABELS.names)]
        run = write_run(tmp_path / "run", rows, labels=list(MANY_LABELS.names))
    elif labels == "none":
        run = write_run(tmp_path / "run", to_plain_rows(made_rows()), labels=[], scoring={})
    else:
        run = write_run(tmp_path / "run", made_rows())
    assert run_blind_test(monkeypatch, run) == 0
    for page in open_sheet(browser, run, PHONE):
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH
        heights = page.evaluate(HEIGHTS)
        assert len(heights) > 8 and min(heights) >= MIN_TOUCH_HEIGHT
        asked = page.locator("legend").all_inner_texts()
        assert len(asked) == (1 if labels == "none" else 3) and asked[-1] == "Which reply fits the dialogue better?"
        assert re.match("user: ", page.locator(".turn").first.inner_text())
