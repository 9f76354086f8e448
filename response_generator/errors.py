"""The two exceptions that end a script with words and no traceback."""

SHOWN_FAULTS = 10


class InputError(Exception):
    """Faults in the arguments or the data, each a line that names place, value, what is allowed and what to do."""

    def __init__(self, *faults: str):
        super().__init__("\n".join(faults))
        self.faults = list(faults)


def refuse_rows(place: str, faults: list[str], rows: str = "rows") -> None:
    """Raises InputError with the first faults of a file's rows, and how many more there are; nothing when none are."""
    if len(faults) > SHOWN_FAULTS:
        faults = [*faults[:SHOWN_FAULTS], f"{place}: and {len(faults) - SHOWN_FAULTS} more {rows} like these"]
    if faults:
        raise InputError(*faults)


class RunError(RuntimeError):
    """A run that would not do what it says, or did not; the message names the reason. Ends with status 1."""
