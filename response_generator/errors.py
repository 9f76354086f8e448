"""The two exceptions that end a script with an error message instead of a traceback."""

MAX_SHOWN_ERRORS = 10


class InputError(Exception):
    """Errors in the arguments or the data: one line each, with place, value, what is allowed and what to do.

    The script ends with status 2.
    """

    def __init__(self, *errors: str):
        super().__init__("\n".join(errors))
        self.messages = list(errors)


def raise_row_errors(place: str, errors: list[str], rows: str = "rows") -> None:
    """Raises InputError with the first `MAX_SHOWN_ERRORS` errors and the number of the others, if there are errors."""
    if len(errors) > MAX_SHOWN_ERRORS:
        errors = [*errors[:MAX_SHOWN_ERRORS], f"{place}: and {len(errors) - MAX_SHOWN_ERRORS} more {rows} like these"]
    if errors:
        raise InputError(*errors)


class RunError(RuntimeError):
    """The run cannot go on, or a check found that its results would be wrong. The script ends with status 1."""
