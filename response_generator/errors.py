"""The two exceptions that end a script with words and no traceback."""


class InputError(Exception):
    """Faults in the arguments or the data, each a line that names place, value, what is allowed and what to do."""

    def __init__(self, *faults: str):
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class RunError(RuntimeError):
    """A run that would not do what it says, or did not; the message names the reason. Ends with status 1."""
