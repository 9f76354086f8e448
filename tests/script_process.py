"""Scripts in real processes of their own that need not import torch and unsloth again, which takes some ten seconds.

Python's forkserver imports them once; each process is a fork of it. It has a process id, receives signals, can be
killed and has an exit status like any other.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
HANG_SECONDS = 900  # no process takes so long on a slow machine, unless it hangs
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["script_process_imports"])


def start_forkserver() -> None:
    """It imports by PYTHONPATH alone, not by the path that pytest has set up."""
    with mock.patch.dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"):
        forkserver.ensure_running()


def forget_processor() -> None:
    """Lets unsloth, where it is imported, ask again whether the processor has bfloat16 instructions."""
    if "unsloth_zoo.cpu.runtime" in sys.modules:
        sys.modules["unsloth_zoo.cpu.runtime"].cpu_bf16_supported.cache_clear()


def run_main(script: str, options: list[str], folder: str, variables: dict[str, str], output: str) -> None:
    """Becomes `python SCRIPT OPTIONS`, in `folder`, with these environment variables alone."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    forget_processor()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")


class ScriptProcess:
    """A running script; the part of subprocess.Popen's interface that the tests use."""

    def __init__(self, script: str, options: list[str], folder: Path, variables: dict[str, str]):
        start_forkserver()
        self.temporary = tempfile.TemporaryDirectory()  # removed together with this object
        self.output = Path(self.temporary.name)
        self.process = FORKSERVER.Process(
            target=run_main, args=(str(ROOT / script), options, str(folder), variables, str(self.output))
        )
        self.process.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float = HANG_SECONDS) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("script", timeout)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def terminate(self) -> None:
        self.process.terminate()

    def read_stdout(self) -> str:
        """Everything printed, once the process has ended."""
        return self.read("stdout")

    def read_stderr(self) -> str:
        return self.read("stderr")

    def read(self, name: str) -> str:
        self.wait()
        file = self.output / name
        return file.read_text(encoding="utf-8") if file.exists() else ""
