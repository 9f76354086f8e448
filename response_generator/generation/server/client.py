"""Asks an OpenAI-compatible server over HTTP. Waits for one that is busy or away, and sends again what it lost."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from tqdm.auto import tqdm

from response_generator.config import strict_json
from response_generator.config.schema import ServerArguments
from response_generator.errors import RunError

CONNECT_SECONDS = 10
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 30.0
PATIENCE_SECONDS = 600  # for a server that is away or busy, such as one that is started again
MAX_FAILURES = 5  # of one request, with an error or a time-out that the server itself causes
SHOWN_CHARACTERS = 300  # of a server's message
BUSY_STATUSES = (429, 502, 503, 504)

Result = TypeVar("Result")


class BadAnswer(ValueError):
    """An answer that is not what the protocol asks for, such as one that was cut."""


class Refused(RunError):
    """The server understood a request and refuses it. `status` is that of HTTP."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Failure(Exception):
    """A request without an answer, which may be sent again. counts: towards MAX_FAILURES. wait: seconds that the server
    asks for."""

    def __init__(self, reason: str, counts: bool, wait: float = 0.0):
        super().__init__(reason)
        self.counts, self.wait = counts, wait


class ServerClient:
    """Keeps connections open, one for each request at a time. May be used by several threads."""

    def __init__(self, server: ServerArguments):
        self.url = server.url.rstrip("/").removesuffix("/v1")
        self.timeout, self.concurrency = server.timeout, server.concurrency
        key = os.environ[server.api_key_env] if server.api_key_env else None
        self.http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(server.timeout, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=server.concurrency, max_keepalive_connections=server.concurrency),
        )
        self.stopped = threading.Event()
        self.is_away, self.lock = False, threading.Lock()

    def __enter__(self) -> "ServerClient":
        return self

    def __exit__(self, *error) -> None:
        self.stopped.set()
        self.http.close()

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        read: Callable[[dict[str, Any]], Result] = lambda answer: answer,
        patience: float | None = None,
    ) -> Result:
        """Sends a request, again where it gets no answer, and returns what `read` makes of the answer.

        Args:
            body: None: a GET.
            read: raises BadAnswer, KeyError, IndexError or TypeError for what is no complete answer.
            patience: seconds for which a server that is away is waited for; None: PATIENCE_SECONDS.

        Raises:
            Refused: when the server refuses the request.
            RunError: when it gives no answer.
        """
        patience = PATIENCE_SECONDS if patience is None else patience
        failures = tries = 0
        failed_at = None
        while True:
            try:
                result = self.read_answer(self.send(path, body), read)
            except Failure as failure:
                failures, tries = failures + failure.counts, tries + 1
                failed_at = failed_at or time.monotonic()
                seconds = time.monotonic() - failed_at
                if failures >= MAX_FAILURES or seconds >= patience or self.stopped.is_set():
                    raise RunError(self.describe_failure(failure, tries, seconds)) from failure
                self.note_away(str(failure), patience)
                wait = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
                self.stopped.wait(max(wait, min(failure.wait, MAX_WAIT_SECONDS)))
            else:
                self.note_back()
                return result

    def send(self, path: str, body: dict[str, Any] | None) -> httpx.Response:
        with self.name_failures():
            response = self.http.get(path) if body is None else self.http.post(path, json=body)
        self.check_status(response)
        return response

    @contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
        """The parts of an answer as the server writes them; it is not sent again. Leaving the context stops the server.

        Raises:
            RunError: when the server gives no answer, or the answer is cut.
        """
        try:
            with self.name_failures(), self.http.stream("POST", path, json=body | {"stream": True}) as response:
                if response.is_error:
                    response.read()
                self.check_status(response)
                yield read_events(response)
        except Failure as failure:
            raise RunError(f"{self.url}: {failure}; try again") from failure

    @contextmanager
    def name_failures(self) -> Iterator[None]:
        """Turns errors of the connection into a Failure."""
        try:
            yield
        except httpx.ReadTimeout as error:
            reason = (
                f"nothing within {self.timeout} seconds: set a longer server.timeout, or a smaller server.concurrency"
            )
            raise Failure(reason, counts=True) from error
        except httpx.TransportError as error:
            raise Failure(str(error) or type(error).__name__, counts=False) from error

    def check_status(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        message = f"HTTP status {response.status_code}: {read_message(response)}"
        if response.status_code in BUSY_STATUSES:
            raise Failure(message, counts=False, wait=read_wait(response))
        if response.is_server_error:
            raise Failure(message, counts=True)
        raise Refused(response.status_code, f"{self.url}{response.request.url.path}: {message}")

    def read_answer(self, response: httpx.Response, read: Callable[[dict[str, Any]], Result]) -> Result:
        try:
            answer = strict_json.parse_json(response.text, allow_nan=True)
            if not isinstance(answer, dict):
                raise BadAnswer("is no JSON object")
            return read(answer)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            reason = f"the answer of {response.request.url.path} cannot be used ({type(error).__name__}: {error})"
            raise Failure(reason, counts=True) from error

    def describe_failure(self, failure: Failure, tries: int, seconds: float) -> str:
        tried = f"after {tries} tries in {seconds:.0f} seconds" if tries > 1 else "at the first try"
        return (
            f"server.url: {self.url}: no answer {tried} ({failure}); start the server, or see what it says, and run "
            f"the same command again: what is finished is kept"
        )

    def note_away(self, reason: str, patience: float) -> None:
        """Says once that the server is waited for, whatever the number of requests that wait."""
        with self.lock:
            if not self.is_away:
                tqdm.write(f"{self.url}: {reason}; asking again for up to {patience / 60:.0f} minutes", sys.stderr)
            self.is_away = True

    def note_back(self) -> None:
        with self.lock:
            if self.is_away:
                tqdm.write(f"{self.url}: answers again", sys.stderr)
            self.is_away = False


def read_events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The parts of a streamed answer: lines `data: {…}`, the last one `data: [DONE]`."""
    for line in response.iter_lines():
        text = line.removeprefix("data:").strip()
        if text == "[DONE]":
            return
        if line.startswith("data:"):
            try:
                part = strict_json.parse_json(text, allow_nan=True)
            except strict_json.JSONError as error:
                raise Failure(f"a part of the answer {error}", counts=True) from error
            if "error" in part:
                raise Failure(str(part["error"])[:SHOWN_CHARACTERS], counts=True)
            yield part
    raise Failure("the answer was cut", counts=True)


def read_message(response: httpx.Response) -> str:
    """What an error says: the message of OpenAI's form, or the start of the text."""
    try:
        answer = response.json()
        found = answer.get("error", answer)
        message = found.get("message") or found.get("detail") if isinstance(found, dict) else found
    except (ValueError, AttributeError):
        message = None
    return str(message or response.text.strip() or response.reason_phrase)[:SHOWN_CHARACTERS]


def read_wait(response: httpx.Response) -> float:
    """Seconds that the header Retry-After asks for; 0 where there is none, or a date."""
    try:
        return float(response.headers.get("Retry-After", 0))
    except ValueError:
        return 0.0
