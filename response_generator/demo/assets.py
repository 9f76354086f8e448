"""Makes folders in assets/, each complete or absent."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from response_generator.config.sources import DEMO_MODELS_FOLDER
from response_generator.runs.atomic_folder import atomic_folder
from response_generator.scoring.quality import QUALITY_FILE, read_quality

ASSETS = Path(DEMO_MODELS_FOLDER)


def prepare_asset(name: str, write: Callable[[Path], None]) -> Path:
    """Makes `assets/name`, which is complete or absent. A classifier of an earlier version, of unknown quality, is made
    again."""
    folder = ASSETS / name
    if name.endswith("classifier") and folder.exists() and not (folder / QUALITY_FILE).exists():
        shutil.rmtree(folder)
    if folder.exists():
        print(f"{folder}: already there")
        return folder
    print(f"making {folder} …", flush=True)
    started = time.monotonic()
    with atomic_folder(folder) as part:
        part.mkdir()
        write(part)
    print(f"{folder}: made in {time.monotonic() - started:.0f} s")
    return folder


def show_accuracy(folder: Path) -> None:
    quality = read_quality(str(folder))
    for data in quality.data_sets.values():
        print(
            f"{folder}: accuracy {data.accuracy[0] * 100:.1f} % on {data.texts} held-out texts, "
            f"macro F1 {data.macro_f1[0]:.3f}"
        )
