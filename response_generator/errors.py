"""The two exceptions that end a script with words and no traceback."""

MAX_SHOWN_ERRORS = 10


class InputError(Exception):
    """Faults in the arguments or the data, each a line that names place, value, what is allowed and what to do."""

    def __init__(self, *errors: str):
        super().__init__("\n".join(errors))
        self.messages = list(errors)


def raise_row_errors(place: str, errors: list[str], rows: str = "rows") -> None:
    """Raises InputError with the first errors of a file's rows, and how many more there are; nothing when none are."""
    if len(errors) > MAX_SHOWN_ERRORS:
        errors = [*errors[:MAX_SHOWN_ERRORS], f"{place}: and {len(errors) - MAX_SHOWN_ERRORS} more {rows} like these"]
    if errors:
        raise InputError(*errors)


class RunError(RuntimeError):
    """A run that would not do what it says, or did not; the message names the reason. Ends with status 1."""
