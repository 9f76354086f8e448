"""The page of the chat in a real browser, with the tiny models."""

import json
import re
from threading import Event

import pytest
from browser_pages import watch_page
from script_process import HANG_SECONDS
from stub_writer import StubWriter
from test_server import serve
from tiny_models import EMOTION_LABELS

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.data.reading import read_dialogues
from response_generator.labels import Labels

MESSAGE = "Hello , how are you ?"
BUTTONS = ("again", "compare", "undo", "new", "download")


@pytest.fixture(scope="module")
def address(chat_writer) -> str:
    with serve(chat_writer) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/"


@pytest.fixture
def page(browser, address):
    """The page, ready for a message; afterwards nothing may have gone wrong in it or been loaded from elsewhere."""
    with watch_page(browser, address) as (page, addresses):
        page.locator("[name=adapter] option").nth(2).wait_for(state="attached")
        yield page
    assert all(each.startswith((address, "data:", f"blob:{address}")) for each in addresses)


def say(page, text: str = MESSAGE) -> None:
    """Sends a message with the Enter key, and waits for the end of the reply."""
    page.locator("[name=text]").fill(text)
    page.locator("[name=text]").press("Enter")
    wait_for_reply(page)


def wait_for_reply(page) -> None:
    page.locator("#turns[aria-busy=false]").wait_for()


def read_replies(page) -> list[str]:
    return page.locator(".answer p").all_inner_texts()


def test_a_message_gets_the_reply_of_the_adapter(page, chat_writer):
    assert page.locator("#stop").is_hidden()
    assert all(page.locator(f"#{name}").is_disabled() for name in BUTTONS)
    page.locator("[name=emotion]").select_option("anger")
    page.locator("[name=user_emotion]").select_option("fear")
    say(page)
    history = [{"role": "user", "content": {"emotion": "fear", "dialog": MESSAGE}}]
    expected = chat_writer.write(history, "anger", "SFT", 42, lambda name, text: None)
    assert page.locator(".said > *").all_inner_texts() == ["you, fear", MESSAGE]
    assert page.locator(".answer p").text_content() == expected.response
    assert page.locator(".answer .labels").inner_text() == expected.describe()
    assert page.locator(".answer").get_attribute("class").split()[1] == ("right" if expected.is_followed else "wrong")
    assert all(page.locator(f"#{name}").is_enabled() for name in BUTTONS)

    page.locator("[name=adapter]").select_option("DPO")
    page.locator("[name=seed]").fill("42")
    page.locator("#again").click()
    page.locator(".answer .speaker", has_text="DPO").wait_for()
    wait_for_reply(page)
    expected = chat_writer.write(history, "anger", "DPO", 42, lambda name, text: None)
    assert page.locator(".answer p").text_content() == expected.response


def test_side_by_side_then_continue_with_one(page):
    say(page)
    page.locator("#compare").click()
    page.locator(".answer.chosen .speaker", has_text="SFT").wait_for()
    assert page.locator(".answer .speaker").all_text_contents() == ["SFT", "DPO", "base"]
    assert len(set(read_replies(page))) == 3
    page.locator("button", has_text="Continue with DPO").click()
    page.locator(".answer.chosen .speaker", has_text="DPO").wait_for()
    assert page.locator("[name=adapter]").input_value() == "DPO"
    page.locator("[name=all_adapters]").select_option("all")
    say(page, "And now ?")
    assert page.locator(".said").count() == 2
    assert page.locator(".answer").count() == 6
    assert page.locator("button", has_text="Continue with").count() == 2  # of the last message alone


def test_a_reply_is_shown_while_it_is_written_and_can_be_stopped(page, chat_writer, monkeypatch):
    say(page)
    before = page.locator("#turns").inner_html()
    monkeypatch.setattr(chat_writer.config, "max_new_tokens", 1000)
    monkeypatch.setattr(chat_writer.config, "min_new_tokens", 1000)
    page.locator("[name=text]").fill("Tell me more .")
    page.locator("#send").click()
    page.locator(".answers").nth(1).locator("p", has_text=re.compile(r"\w")).wait_for()
    assert page.locator("#turns").get_attribute("aria-busy") == "true"
    assert page.locator("#send").is_hidden()
    page.locator("#stop").click()
    wait_for_reply(page)
    assert page.locator("#error").inner_text() == "stopped; the dialogue is as it was before"
    assert page.locator("#turns").inner_html() == before
    assert page.locator("[name=text]").input_value() == "Tell me more ."
    monkeypatch.undo()
    say(page, "Tell me more .")
    assert page.locator(".said").count() == 2
    assert page.locator("#error").is_hidden()


class WaitingWriter(StubWriter):
    """Writes a reply that is not shown on the way, once `goes_on` is set."""

    wait_note = "writing 6 replies"

    def __init__(self):
        super().__init__()
        self.goes_on = Event()

    def write(self, history, emotion, name, seed, show):
        show(name, "")
        assert self.goes_on.wait(HANG_SECONDS)
        return super().write(history, emotion, name, seed, show)


def test_while_the_best_of_several_replies_is_chosen_the_page_says_so(browser):
    writer = WaitingWriter()
    with serve(writer) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        with watch_page(browser, address) as (page, _):
            page.locator("[name=adapter] option").nth(2).wait_for(state="attached")
            page.locator("[name=text]").fill(MESSAGE)
            page.locator("[name=text]").press("Enter")
            page.locator(".answer .labels", has_text="writing 6 replies").wait_for()
            writer.goes_on.set()
            wait_for_reply(page)
            assert page.locator(".answer p").inner_text() == "SFT with seed 42 after 1"
            assert "writing" not in page.locator("#turns").inner_text()


def test_a_reload_keeps_the_dialogue_and_another_tab_has_its_own(page, address):
    say(page)
    page.reload()
    page.locator(".answer .labels").wait_for()
    assert page.locator(".said p").inner_text() == MESSAGE
    other = page.context.new_page()
    other.goto(address)
    other.locator("[name=adapter] option").first.wait_for(state="attached")
    assert other.locator(".said").count() == 0


def test_undo_and_new_dialogue(page):
    say(page)
    say(page, "Second .")
    page.locator("#undo").click()
    page.locator(".said").nth(1).wait_for(state="detached")
    assert page.locator("[name=text]").input_value() == "Second ."
    page.locator("#new").click()
    page.locator(".said").first.wait_for(state="detached")
    assert page.locator("#undo").is_disabled()


def test_the_downloaded_row_is_data_for_evaluation(page, tmp_path):
    say(page)
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "chat.jsonl"
    download.value.save_as(tmp_path / "chat.jsonl")
    (dialogue,), _ = read_dialogues(DatasetArguments(path=str(tmp_path / "chat.jsonl")), EMOTION_LABELS)
    assert dialogue.history[0]["content"]["dialog"] == MESSAGE
    assert dialogue.gold_response == page.locator(".answer p").text_content()
    (row,) = map(json.loads, (tmp_path / "chat.jsonl").read_text(encoding="utf-8").splitlines())
    assert row["replies"][0]["seed"] == 42


def test_texts_are_no_markup_and_shift_enter_starts_a_line(page):
    box = page.locator("[name=text]")
    box.fill("<img src=x onerror=\"document.title = 'taken'\"> <b>bold</b>")
    box.press("Shift+Enter")
    box.press_sequentially("next")
    box.press("Enter")
    page.locator(".answer .labels", has_text="seed").wait_for()
    assert page.locator(".said p").text_content().splitlines()[1] == "next"
    assert page.locator("#turns img, #turns b").count() == 0
    assert page.title() == "Chat"


def test_a_wrong_seed_is_refused_by_the_page(page):
    say(page)
    page.locator("[name=seed]").fill("-1")
    page.locator("#again").click()
    assert page.locator("#error").inner_text().startswith("seed: needed: a whole number")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "labels",
    [
        Labels(("polite", "rude"), None),
        Labels((*(f"label {number:02}" for number in range(27)), "neutral"), "neutral"),
        Labels(("in the style of a ship captain at dawn", "x" * 40), None),
        Labels((), None),
    ],
    ids=["two", "28", "long", "none"],
)
def test_the_labels_of_the_run_can_be_chosen(labels, width, browser):
    with serve(StubWriter(labels)) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        with watch_page(browser, address, viewport={"width": width, "height": 844}) as (page, _):
            page.locator("[name=adapter] option").nth(2).wait_for(state="attached")
            target, own = page.locator("[name=emotion]"), page.locator("[name=user_emotion]")
            assert target.locator("option").all_inner_texts() == list(labels.names)
            assert own.locator("option").all_inner_texts() == (["auto", *labels.names] if labels else [])
            assert target.is_visible() == own.is_visible() == bool(labels)
            if labels:
                assert target.input_value() == (labels.neutral or labels.names[0])
                target.select_option(labels.names[1])
            say(page)
            said = page.locator(".said .speaker").inner_text()
            assert said == (f"you, {labels.neutral or labels.names[0]}" if labels else "you")
            facts = page.locator(".answer .labels").inner_text()
            assert facts.startswith(f"target {labels.names[1]} followed" if labels else "7 tokens; seed 42")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.querySelector('main').scrollWidth") <= width - 32


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(page, scheme):
    """Nothing is wider than the screen, and the form covers neither the replies nor an error."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    say(page, "x" * 200)
    page.locator("#compare").click()
    page.locator(".answer .labels").nth(2).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.documentElement.scrollHeight") <= 800
    assert page.evaluate("document.querySelector('main').scrollWidth") <= 390 - 32
    first, form = (page.locator(name).first.bounding_box() for name in (".answer", "form"))
    assert first["y"] + first["height"] <= form["y"]
    page.locator("[name=seed]").fill("x")
    page.locator("#again").click()
    error = page.locator("#error").bounding_box()
    assert 0 <= error["y"] <= 800 - error["height"]
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert (
        colors
        == {
            "light": ["rgb(255, 255, 255)", "rgb(29, 36, 48)"],
            "dark": ["rgb(23, 28, 36)", "rgb(228, 232, 238)"],
        }[scheme]
    )
