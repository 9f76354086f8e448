"""Short names of run folders and adapters, for titles and tables."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from response_generator.config.section import BARE_BASE_MODEL

ADAPTER_FOLDER = "adapter"  # of a training's run folder, which is what names the adapter


def build_page_title(subject: str, folder: Path, contents: Sequence[str] = ()) -> str:
    """For example "Evaluation: demo/evaluate (adapter dpo, baseline sft)"."""
    return f"{subject}: {name_run(folder)}" + (f" ({', '.join(contents)})" if contents else "")


def name_run(folder: Path) -> str:
    """The last two parts of the run folder's path: many runs are called dpo."""
    return "/".join(folder.absolute().parts[-2:])


def name_adapters(adapters: dict[str, str]) -> list[str]:
    """Each adapter (a folder or hub id) after what it is, its key: "adapter dpo", "baseline sft"."""
    paths = {adapter: Path(adapter) for adapter in adapters.values() if adapter != BARE_BASE_MODEL}
    paths = {adapter: path.parent if path.name == ADAPTER_FOLDER else path for adapter, path in paths.items()}
    short = shorten_paths(list(dict.fromkeys(paths.values())), set())
    names = {adapter: short[path] for adapter, path in paths.items()} | {BARE_BASE_MODEL: "bare base model"}
    return [f"{key} {names[adapter]}" for key, adapter in adapters.items()]


def shorten_paths(folders: list[Path], taken: set[str]) -> dict[Path, str]:
    """A name for each of the different folders: the last part of its path, and as many parts before it as make the
    name different from those of the others and from `taken`."""
    parts = {folder: Path(os.path.abspath(folder)).parts for folder in folders}
    lengths = dict.fromkeys(folders, 1)
    while True:
        names = {folder: str(Path(*parts[folder][-lengths[folder] :])) for folder in folders}
        counts = Counter([*names.values(), *taken])
        too_short = [folder for folder in folders if counts[names[folder]] > 1 and lengths[folder] < len(parts[folder])]
        if not too_short:
            return names
        for folder in too_short:
            lengths[folder] += 1
