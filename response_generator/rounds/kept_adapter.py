"""The adapter of the best round, at the place where a training leaves its own."""

import shutil
from pathlib import Path

from response_generator.runs.atomic_folder import atomic_folder


def keep_adapter(adapter: Path, place: Path) -> None:
    """Copies an adapter completely or not at all; one that an earlier start has copied is kept."""
    if not place.exists():
        with atomic_folder(place) as copy:
            shutil.copytree(adapter, copy)
