"""How the replies of finished runs were written, and what that says of a comparison."""

from collections.abc import Mapping
from pathlib import Path

from response_generator.generation.server.facts import SERVER
from response_generator.runs.environment import read_environment


def describe_methods(folders: Mapping[str, Path]) -> list[str]:
    """A sentence where the runs were not all written in the same way; none where they were.

    Args:
        folders: run folders by the names that are shown.
    """
    methods = {name: read_method(folder) for name, folder in folders.items()}
    if len(set(filter(None, methods.values()))) < 2:
        return []
    listed = "; ".join(f"{name}: {method or 'not known'}" for name, method in methods.items())
    return [
        f"The replies were not written in the same way, so that not every difference is one of the adapters: {listed}."
    ]


def read_method(folder: Path) -> str | None:
    """How the replies of a run were written: by what, and with a base model of how many bits. None: an earlier version
    of this program has not noted it in a run that was scored again."""
    noted = read_environment(folder)
    if SERVER in noted:
        version = noted[SERVER].get("version")
        return f"a server{f' ({version})' if version else ''}"
    if "generation_method" not in noted:
        return None
    model = noted.get("model", {})
    bits = {True: ", 4-bit weights", False: f", {model.get('dtype')}"}.get(model.get("four_bit"), "")
    return f"{noted['generation_method']}{bits}"
