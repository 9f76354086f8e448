"""The one exception for what a person can put right: it ends a script with status 2 and no traceback."""


class InputError(Exception):
    """Faults in the arguments or the data, each a line that names place, value, what is allowed and what to do."""

    def __init__(self, *faults: str):
        super().__init__("\n".join(faults))
        self.faults = list(faults)
