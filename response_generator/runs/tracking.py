"""Tracking with wandb and TensorBoard. A failure of one of them prints one line and does not stop the run."""

import netrc
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

from response_generator.config.schema import WandbArguments
from response_generator.runs import distributed
from response_generator.runs.run_folder import WANDB_ID_FILE

MAX_FINISH_SECONDS = 300  # for what is not uploaded when a run ends; `wandb sync` uploads the rest
TENSORBOARD_FOLDER = "tensorboard"
GO_ONLINE = "wandb: offline, because there is no API key; to send runs, set WANDB_API_KEY or run `wandb login` once"
TOOLS = {"run": "wandb", "board": "tensorboard"}  # attributes of a Tracker


class Tracker:
    """Sends the resolved arguments, the log and the results of one run to wandb, and the log to TensorBoard. Does
    nothing without a wandb run or a TensorBoard writer."""

    def __init__(self, run: Any | None = None, board: Any | None = None):
        self.run = run
        self.board = board

    @classmethod
    def start(
        cls, settings: WandbArguments, folder: Path, config: dict[str, Any], tensorboard_from: int | None = None
    ) -> "Tracker":
        """
        Args:
            tensorboard_from: the first step that this start of the run logs. TensorBoard forgets what an earlier start
                has logged from this step on. None: no TensorBoard.
        """
        tracker = cls()
        if settings.mode != "disabled" and distributed.is_main_process():
            tracker.run = tracker.attempt("run", lambda: start_wandb(settings, folder, config))
        if tensorboard_from is not None and distributed.is_main_process():
            tracker.board = tracker.attempt("board", lambda: start_tensorboard(folder, tensorboard_from))
        return tracker

    def attempt(self, tool: str, send: Callable[[], Any]) -> Any:
        """Calls `send`; after any exception (network, disk, the tool itself) the run goes on without this tool.

        Args:
            tool: a key of TOOLS.
        """
        try:
            return send()
        except Exception as error:
            setattr(self, tool, None)
            print(f"{TOOLS[tool]}: {type(error).__name__}: {error}; the run goes on without tracking", file=sys.stderr)
            return None

    def send(self, tool: str, call: Callable[[Any], Any]) -> None:
        """Calls `call` with the wandb run or the TensorBoard writer; does nothing where there is none."""
        if getattr(self, tool) is not None:
            self.attempt(tool, lambda: call(getattr(self, tool)))

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self.send("run", lambda run: run.log(values, step=step))
        self.send("board", lambda board: write_scalars(board, values, step))

    def log_table(self, name: str, columns: list[str], rows: list[list[Any]], step: int | None = None) -> None:
        self.send("run", lambda run: run.log({name: import_wandb().Table(columns=columns, data=rows)}, step=step))

    def log_image(self, name: str, file: Path) -> None:
        self.send("run", lambda run: run.log({name: import_wandb().Image(str(file))}))

    def summarize(self, values: dict[str, Any]) -> None:
        self.send("run", lambda run: run.summary.update(values))

    def finish(self) -> None:
        self.send("run", lambda run: run.finish())
        self.send("board", lambda board: board.close())


def import_wandb() -> ModuleType:
    import wandb  # takes seconds, which a run without tracking need not wait for

    return wandb


def start_wandb(settings: WandbArguments, folder: Path, config: dict[str, Any]):
    wandb = import_wandb()
    return wandb.init(
        mode=choose_mode(settings),
        id=read_wandb_id(folder),
        resume="allow",
        dir=folder,
        config=config,
        settings=wandb.Settings(
            console="off", silent=True, finish_timeout=MAX_FINISH_SECONDS, finish_timeout_raises=True
        ),
        **settings.model_dump(exclude={"mode", "tags"}),
        tags=settings.tags,
    )


def choose_mode(settings: WandbArguments) -> str:
    """The mode that wandb is started with. Prints what `auto` has become."""
    if settings.mode != "auto":
        return settings.mode
    is_online = has_wandb_key()
    print("wandb: online, because there is an API key" if is_online else GO_ONLINE)
    return "online" if is_online else "offline"


def has_wandb_key() -> bool:
    """Whether there is an API key: in WANDB_API_KEY, or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def read_wandb_id(folder: Path) -> str:
    """Reads the wandb id of this run folder, creating one at the first start, so that a resumed run keeps its id."""
    file = folder / WANDB_ID_FILE
    if not file.is_file():
        file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def start_tensorboard(folder: Path, first_step: int):
    from torch.utils.tensorboard import SummaryWriter  # imports TensorBoard, which few runs use

    return SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=first_step)


def write_scalars(board: Any, values: dict[str, Any], step: int | None) -> None:
    for name, value in values.items():
        if isinstance(value, (int, float)):
            board.add_scalar(name, value, step)
    board.flush()  # a killed run keeps the steps up to its last checkpoint
