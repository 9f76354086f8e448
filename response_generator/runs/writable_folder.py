"""Whether a run may write into a folder, which need not exist yet."""

import os
import tempfile
from pathlib import Path

from response_generator.runs import run_lock


def find_writing_errors(folder: Path) -> list[str]:
    """Returns what is in the way of a folder, or who has locked it. Leaves no file behind.

    Raises:
        OSError: when it cannot be written to.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.exists():
        return [f"output_dir: {nearest}: is a link to {os.readlink(nearest)}, which does not exist; name a folder"]
    if not nearest.is_dir():
        return [f"output_dir: {nearest}: is a file; name a folder"]
    with tempfile.TemporaryDirectory(dir=nearest):
        return run_lock.find_errors(folder)
