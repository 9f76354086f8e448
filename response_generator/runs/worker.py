"""Calls a function in a new process that does not outlive this one."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from response_generator.runs import terminal
from response_generator.runs.stop_signals import list_stop_signals

Result = TypeVar("Result")


def call_in_new_process(function: Callable[..., Result], *arguments) -> Result:
    """Calls `function(*arguments)` in a new interpreter, and returns its result or raises its exception.

    The new process ends when this one leaves this function, for example with KeyboardInterrupt, or is killed. Signals
    that a terminal or a cluster sends to both are left to this process.

    Raises:
        BrokenProcessPool: when the new process is killed.
    """
    context = multiprocessing.get_context("spawn")
    watched_end, own_end = context.Pipe(duplex=False)
    with (
        ProcessPoolExecutor(1, mp_context=context, initializer=start_process, initargs=(watched_end,)) as pool,
        own_end,  # closed first, because leaving the pool waits for its process
    ):
        earlier_mask = signal.pthread_sigmask(signal.SIG_BLOCK, list_stop_signals())  # the new process inherits it
        try:
            answer = pool.submit(function, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier_mask)
        return answer.result()


def start_process(watched_end: Connection) -> None:
    """Prepares the new process: it prints as this one does, and ends once the other end of the pipe is closed, which
    the system does when the process there dies."""
    terminal.protect_output()

    def watch() -> None:
        wait([watched_end])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
