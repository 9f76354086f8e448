"""Tracking with wandb. A failure of wandb prints one line and does not stop the run."""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from response_generator.config.schema import WandbArguments
from response_generator.runs import distributed
from response_generator.runs.run_folder import WANDB_ID_FILE


class Tracker:
    """Sends the resolved arguments, the log and the results of one run to wandb. Does nothing without a wandb run."""

    def __init__(self, run: Any | None = None):
        self.run = run

    @classmethod
    def start(cls, settings: WandbArguments, folder: Path, config: dict[str, Any]) -> "Tracker":
        tracker = cls()
        if settings.mode != "disabled" and distributed.is_main_process():
            tracker.run = tracker.attempt(lambda: start_wandb(settings, folder, config))
        return tracker

    def attempt(self, send: Callable[[], Any]) -> Any:
        """Calls `send`; after any exception (network, disk, wandb itself) the run goes on without tracking."""
        try:
            return send()
        except Exception as error:
            self.run = None
            print(f"wandb: {type(error).__name__}: {error}; the run goes on without tracking", file=sys.stderr)
            return None

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        if self.run is not None:
            self.attempt(lambda: self.run.log(values, step=step))

    def log_table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        def send():
            import wandb

            self.run.log({name: wandb.Table(columns=columns, data=rows)})

        if self.run is not None:
            self.attempt(send)

    def log_image(self, name: str, file: Path) -> None:
        def send():
            import wandb

            self.run.log({name: wandb.Image(str(file))})

        if self.run is not None:
            self.attempt(send)

    def summarize(self, values: dict[str, Any]) -> None:
        if self.run is not None:
            self.attempt(lambda: self.run.summary.update(values))

    def finish(self) -> None:
        if self.run is not None:
            self.attempt(lambda: self.run.finish())


def start_wandb(settings: WandbArguments, folder: Path, config: dict[str, Any]):
    import wandb

    return wandb.init(
        id=read_wandb_id(folder),
        resume="allow",
        dir=folder,
        config=config,
        settings=wandb.Settings(console="off", silent=True),
        **settings.model_dump(exclude={"tags"}),
        tags=settings.tags,
    )


def read_wandb_id(folder: Path) -> str:
    """Reads the wandb id of this run folder, creating one at the first start, so that a resumed run keeps its id."""
    file = folder / WANDB_ID_FILE
    if not file.is_file():
        file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()
