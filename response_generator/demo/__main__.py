"""Prepares the demo's models, once: `python -m response_generator.demo`.

Writes the base model, the emotion classifier and the gibberish classifier into assets/. Models that are already there
are kept; one that was interrupted is made again.
"""

import json
import os
import shutil
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from response_generator.cli import command_line
from response_generator.runs import library_output

ASSETS = Path("assets")


def prepare_asset(name: str, write: Callable[[Path], None]) -> Path:
    """Makes `assets/name`, which is complete or absent."""
    folder = ASSETS / name
    if folder.exists():
        print(f"{folder}: already there")
        return folder
    print(f"making {folder} …", flush=True)
    part = ASSETS / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    started = time.monotonic()
    write(part)
    os.replace(part, folder)
    print(f"{folder}: made in {time.monotonic() - started:.0f} s")
    return folder


def show_accuracy(folder: Path) -> None:
    metrics = json.loads((folder / "accuracy.json").read_text(encoding="utf-8"))
    print(
        f"{folder}: accuracy {metrics['accuracy'] * 100:.1f} % on {metrics['held_out']} held-out texts, "
        f"macro F1 {metrics['macro_f1']:.3f}"
    )


def main() -> None:
    parser = ArgumentParser("python -m response_generator.demo", description=__doc__)
    command_line.add_verbose(parser)
    library_output.set_verbose(parser.parse_args().verbose)
    names = ("base_model", "emotion_classifier", "gibberish_classifier")
    if not all((ASSETS / name).exists() for name in names):
        print("preparing the demo's models (once, about two minutes on two cores)", flush=True)

    library_output.silence_loggers()
    import transformers

    from response_generator.demo.base_model import write_base_model
    from response_generator.demo.classifiers import write_emotion_classifier, write_gibberish_classifier

    library_output.hide_progress_bars()
    if not library_output.is_verbose():
        transformers.logging.set_verbosity_error()
    writers = (write_base_model, write_emotion_classifier, write_gibberish_classifier)
    base_model, *classifiers = [prepare_asset(name, write) for name, write in zip(names, writers, strict=True)]
    for folder in classifiers:
        show_accuracy(folder)


if __name__ == "__main__":
    main()
