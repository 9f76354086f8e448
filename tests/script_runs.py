"""Running the scripts: in this process, in a forked process, or in a new interpreter."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from script_process import HANG_SECONDS, ROOT, ScriptProcess


def script_environment() -> dict[str, str]:
    """Returns environment variables without wandb and hub settings and without a GPU."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "HF_"))}
    return variables | {"NETRC": os.devnull, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160"}


def start_script(script: str, args: dict, folder: Path, *options: str) -> ScriptProcess:
    """Starts a script in a process of its own, in `folder`, with an args file that holds `args`."""
    return ScriptProcess(script, ["--json_file", write_args(folder, args), *options], folder, script_environment())


def start_two_processes(script: str, args: dict, folder: Path) -> list[ScriptProcess]:
    """Starts a script in two processes that share its work, with the variables that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = script_environment() | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    options = ["--json_file", write_args(folder, args)]
    return [
        ScriptProcess(script, options, folder, variables | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")
    ]


def run_script(script: str, args: dict, folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Runs a script in a process of its own to its end, see `start_script`."""
    process = start_script(script, args, folder, *options)
    return subprocess.CompletedProcess(script, process.wait(), process.read_stdout(), process.read_stderr())


def run_new_interpreter(
    script: str, args: dict, folder: Path, *options: str, **variables: str
) -> subprocess.CompletedProcess:
    """Runs a script in a new interpreter: where what is imported matters, or the variables that imports read."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), "--json_file", write_args(folder, args), *options],
        cwd=folder,
        env=script_environment() | variables,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def run_on_gpu_code(script: str, args: dict, folder: Path) -> list[str]:
    """Runs a script of tests/ on unsloth's GPU code, in a process of its own, with an args file that holds `args`, and
    returns the lines that it prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / script), write_args(folder, args)],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write_args(folder: Path, args: dict) -> str:
    file = folder / "args_of_test.json"
    file.write_text(json.dumps(args), encoding="utf-8")
    return str(file)


def run_here(main: Callable[[], None], args: dict, folder: Path, *options: str) -> int:
    """Runs a script's `main` in this process, which is faster because everything is imported; returns its status."""
    from response_generator.cli import command_line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["script.py", "--json_file", write_args(folder, args), *options])
        return command_line.run_main(main)
