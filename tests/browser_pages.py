"""A page in a real browser."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.text import Text

from response_generator.reporting.pictures import Plot

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# As root there is no sandbox to be had; without the others the browser looks for a network.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@contextmanager
def watch_page(browser, address: str, **context_options) -> Iterator:
    """The page at an address, and the addresses that it asks for; afterwards nothing may have gone wrong in it."""
    context = browser.new_context(**({"viewport": {"width": 1200, "height": 900}} | context_options))
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints, addresses = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(address)
    yield page, addresses
    context.close()
    assert complaints == []


@contextmanager
def open_page(browser, file: Path, **context_options) -> Iterator:
    """The page, opened from disk with no network, which it may not ask for."""
    with watch_page(browser, file.as_uri(), offline=True, **context_options) as (page, addresses):
        yield page
    assert [address for address in addresses if not address.startswith("data:")] == [file.as_uri()]


PHONE_WIDTH, MIN_FONT_SIZE, MIN_TOUCH_HEIGHT = 390, 9, 44  # px
PHONE = {"width": PHONE_WIDTH, "height": 844}
PX_PER_POINT = 96 / 72


def assert_fits_a_phone(page, plots: Iterable[Plot]) -> None:
    """Nothing of the page, folded parts opened, is wider than a phone, unless a hint says that it is scrolled; the text
    of its plots can be read, and what is clicked is large enough for a finger.

    Args:
        plots: in the order of the page.
    """
    page.set_viewport_size(PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE_WIDTH
    cells = page.evaluate("[...document.querySelectorAll('td, th')].map(cell => cell.getBoundingClientRect().right)")
    assert max(cells) <= PHONE_WIDTH
    widths = page.evaluate(
        "[...document.images].map(image => [image.getBoundingClientRect().width, image.naturalWidth])"
    )
    for (shown, natural), plot in zip(widths, plots, strict=True):
        smallest = min(text.get_fontsize() for text in plot.figure.findobj(Text) if text.get_text())
        assert smallest * PX_PER_POINT * shown / natural >= MIN_FONT_SIZE
    assert page.locator("figure").count() == page.locator(".scroll-hint:visible").count()
    clicked = page.locator("button:visible, select:visible, input:visible, summary:visible")
    assert all(element.bounding_box()["height"] >= MIN_TOUCH_HEIGHT for element in clicked.all())
