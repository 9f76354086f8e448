"""The blocks that a report's page is put together from; report.html.jinja says how each of them looks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `style` is a class of report.css."""

    text: str
    style: Literal["note", "conclusion"] = "note"


@dataclass(frozen=True)
class Sentences:
    """A list of sentences; warnings are numbered."""

    sentences: Sequence[str]
    are_warnings: bool = False


@dataclass(frozen=True)
class Card:
    """A key figure: `value` in large type, a note, and `(name, value)` rows below."""

    title: str
    value: str = ""
    note: str = ""
    rows: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Cards:
    cards: Sequence[Card]


@dataclass(frozen=True)
class Table:
    """`groups`: rows by the title of their group; a row is its title and then one cell per column. `style`: classes of
    report.css."""

    groups: Mapping[str, Sequence[Sequence[str]]]
    header: Sequence[str] = ()
    title: str = ""
    style: str = ""


@dataclass(frozen=True)
class Picture:
    """A plot as SVG; `description` is its text for those who do not see it. `name`: of its address in the page."""

    name: str
    description: str
    svg: bytes

    @property
    def data_url(self) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True)
class Pictures:
    """Wide pictures, which a phone scrolls; or panels, side by side and on a phone one below the other."""

    pictures: Sequence[Picture]
    are_panels: bool = False


@dataclass(frozen=True)
class PromptReplies:
    """A prompt, and the replies of each model: what stands before the text, the text, and what stands after it."""

    title: str
    turns: Sequence[tuple[str, str]]
    replies: Mapping[str, Sequence[tuple[str, str, str]]]


@dataclass(frozen=True)
class Browser:
    """Prompts with replies, which a script filters, sorts and lists.

    rows: `{"target": emotion, "history": [{"role", "emotion", "text"}], "replies": [{"name", "text", "labels",
        "style"}], "views": [{"title", "outcome", "keys"}]}`. A row has one view, or one for each of the options of
        `view_options`; its title, its outcome and its sort keys, one for each of `orders`.
    unit: what the rows are, in the plural.
    hint: where else they are.
    """

    title: str
    unit: str
    rows: Sequence[dict[str, Any]]
    emotions: Sequence[str]
    orders: Sequence[str]
    outcomes: Sequence[str] = ()
    view_title: str = ""
    view_options: Sequence[str] = ()
    note: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Section:
    """Blocks below a heading; a folded section is closed until it is clicked."""

    title: str
    blocks: Sequence["Block"]
    folded: Literal["always", "on phones"] | None = None


Block = Paragraph | Sentences | Cards | Table | Pictures | PromptReplies | Browser | Section


def list_settings(title: str, settings: Mapping[str, str]) -> Section:
    return Section(title, [Table({"": list(settings.items())}, style="settings")], "always")
