"""The labels that replies have and that the model is asked for: emotions, or a style, a persona, a politeness."""

from dataclasses import dataclass

# In the order of the published classifier's ids. DailyDialog calls the first one "no emotion".
DAILY_DIALOG_EMOTIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")


@dataclass(frozen=True)
class Labels:
    """The labels of a run, in the order of its args; none where the data has no labels."""

    names: tuple[str, ...]
    neutral: str | None  # the one that stands for no particular label; figures "without neutral" leave it out

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def noun(self) -> str:
        """What a text calls one of them."""
        return "emotion" if self.names == DAILY_DIALOG_EMOTIONS else "label"

    @property
    def default(self) -> str | None:
        """The label where none was chosen: the neutral one, or else the first; None without labels."""
        return self.neutral or next(iter(self.names), None)

    def describe(self) -> str:
        """For messages: the names, and which of them is neutral."""
        names = [f"{name} (neutral)" if name == self.neutral else name for name in self.names]
        return ", ".join(names) or "none"
