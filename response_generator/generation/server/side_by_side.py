"""Asks a server for many things at once, and passes each answer on when it is there."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

END = object()  # in place of an item where there are no more


def ask_side_by_side(
    ask: Callable[[Item], Result], items: Sequence[Item], concurrency: int
) -> Iterator[list[tuple[Item, Result]]]:
    """Yields items with their results, those that were finished since the last time together.

    At most `concurrency` items are asked for at once, and at most as many more wait to be taken: where the caller is
    slower than the server, the server gets nothing more to do. Threads that still wait for an answer when the caller
    stops end with the process.

    Raises:
        Exception: that of `ask`, after the results that were finished before.
    """
    waiting, lock = iter(items), threading.Lock()
    finished: queue.SimpleQueue[tuple[Item, Result | None, BaseException | None]] = queue.SimpleQueue()
    places, stopped = threading.Semaphore(2 * concurrency), threading.Event()

    def work() -> None:
        while True:
            places.acquire()
            with lock:
                item = next(waiting, END)
            if item is END or stopped.is_set():
                return
            try:
                finished.put((item, ask(item), None))
            except BaseException as error:  # is raised in the caller's thread
                finished.put((item, None, error))

    threads = min(concurrency, len(items))
    for number in range(threads):
        threading.Thread(target=work, name=f"request {number}", daemon=True).start()
    left = len(items)
    try:
        while left:
            group = [finished.get()]
            while not finished.empty():
                group.append(finished.get())
            done = [(item, result) for item, result, error in group if error is None]
            if done:
                yield done
            for _, _, error in group:
                if error is not None:
                    raise error
            left -= len(group)
            places.release(len(group))
    finally:
        stopped.set()
        for _ in range(threads):
            places.release()
