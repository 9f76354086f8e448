"""Answers the requests of the chat's page: its files, and what the user does in a dialogue."""

import ipaddress
import json
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from response_generator.chat.dialogue import Conversation, Turn
from response_generator.chat.page_messages import ActionRequest, change_settings, describe_dialogue
from response_generator.chat.reply import ShowText
from response_generator.config import strict_json
from response_generator.config.validation import describe_pydantic_error
from response_generator.errors import InputError, RunError
from response_generator.reporting.page import BROWSER_FILE, STYLE_FILE
from response_generator.runs import json_lines

PAGE = Path(__file__).with_name("page")
FILES = {  # by address: file and content type
    "/": (PAGE / "chat.html", "text/html"),
    "/chat.css": (PAGE / "chat.css", "text/css"),
    "/chat.js": (PAGE / "chat.js", "text/javascript"),
    "/report.css": (STYLE_FILE, "text/css"),
    "/browser.js": (BROWSER_FILE, "text/javascript"),
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MAX_BODY_BYTES = 100_000
JSON, JSON_LINES = "application/json", "application/x-ndjson"


class RequestError(Exception):
    """A request that is refused, with the HTTP status that says why."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class PageHandler(BaseHTTPRequestHandler):
    """Answers one request. Errors are JSON, `{"error": message}`."""

    server_version, sys_version = "response-generator", ""
    timeout = 60  # seconds that a client may stay silent
    is_streaming = False

    def do_GET(self) -> None:
        self.answer(self.answer_get)

    def do_POST(self) -> None:
        self.answer(self.answer_post)

    def answer(self, work: Callable[[], None]) -> None:
        try:
            self.check_sender()
            work()
        except RequestError as error:
            self.send_error_message(error.status, str(error))
        except InputError as error:
            self.send_error_message(HTTPStatus.BAD_REQUEST, str(error))
        except RunError as error:
            self.send_error_message(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except (ConnectionError, TimeoutError):
            pass  # the page was closed, or its user stopped the reply
        except OSError as error:  # a file of the page cannot be opened
            self.send_error_message(HTTPStatus.SERVICE_UNAVAILABLE, f"{error.filename}: {error.strerror}")

    def check_sender(self) -> None:
        """Refuses requests that another site makes in the user's browser.

        A site whose own name leads to this address (DNS rebinding) sends its name as Host. A site that posts across
        sites sends itself as Origin.
        """
        host = self.headers.get("Host", "")
        if not is_own_name(host, self.server.host):
            raise RequestError(HTTPStatus.FORBIDDEN, f"Host {host[:100]!r} is not this server")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            raise RequestError(HTTPStatus.FORBIDDEN, f"Origin {origin[:100]!r} is another site")

    def answer_get(self) -> None:
        if self.path not in FILES:
            raise RequestError(HTTPStatus.NOT_FOUND, "there is no such page")
        file, content_type = FILES[self.path]
        self.send_content(HTTPStatus.OK, file.read_bytes(), f"{content_type}; charset=utf-8")

    def answer_post(self) -> None:
        request = self.read_request()
        name = self.server.open_dialogue() if self.path == "/open" else request.dialogue
        dialogue: Conversation | None = self.server.find_dialogue(name)
        if dialogue is None:
            raise RequestError(HTTPStatus.NOT_FOUND, "this dialogue is no longer kept; reload the page to start anew")
        changes: dict[str, Callable[[], Any]] = {
            "/settings": lambda: change_settings(dialogue, request),
            "/choose": lambda: dialogue.choose(request.adapter or ""),
            "/undo": dialogue.undo,
            "/new": dialogue.start_new,
        }
        replies: dict[str, Callable[[ShowText], Turn]] = {
            "/say": lambda show: (dialogue.say_to_all if request.all_adapters else dialogue.say)(request.text, show),
            "/again": lambda show: dialogue.again(request.seed, show),
            "/compare": dialogue.compare,
        }
        if self.path == "/row":
            self.send_content(HTTPStatus.OK, json_lines.encode_rows([dialogue.to_row()]), JSON_LINES)
        elif self.path in ("/open", "/show"):
            self.send_json(HTTPStatus.OK, describe_dialogue(name, dialogue))
        elif self.path in changes:
            with self.server.one_at_a_time:
                changes[self.path]()
                changed_dialogue = describe_dialogue(name, dialogue)
            self.send_json(HTTPStatus.OK, changed_dialogue)
        elif self.path in replies:
            with self.server.one_at_a_time:
                replies[self.path](self.show_text)
                changed_dialogue = describe_dialogue(name, dialogue)
            self.stream(changed_dialogue)
        else:
            raise RequestError(HTTPStatus.NOT_FOUND, "there is no such action")

    def read_request(self) -> ActionRequest:
        if self.headers.get_content_type() != JSON:
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"needed: Content-Type {JSON}")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "needed: Content-Length")
        if int(length) > MAX_BODY_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request has {length} bytes; allowed: {MAX_BODY_BYTES}"
            )
        try:
            values = strict_json.parse_json(self.rfile.read(int(length)).decode("utf-8"))
            return ActionRequest.model_validate(values)
        except ValidationError as error:
            messages = [describe_pydantic_error(ActionRequest, entry) for entry in error.errors()]
            raise RequestError(HTTPStatus.BAD_REQUEST, "; ".join(messages)) from error
        except ValueError as error:  # not UTF-8, or not JSON
            raise RequestError(HTTPStatus.BAD_REQUEST, f"the request is not JSON: {error}") from error

    def show_text(self, name: str, text: str) -> None:
        """Sends a part of a reply. When the page is gone this raises ConnectionError, which stops the reply."""
        if self.server.is_closing:
            raise ConnectionAbortedError
        self.stream({"adapter": name, "text": text})

    def stream(self, line: dict[str, Any]) -> None:
        """Sends one line of JSON, the first one after the headers."""
        if not self.is_streaming:
            self.send_headers(HTTPStatus.OK, JSON_LINES)
            self.is_streaming = True
        self.wfile.write(json.dumps(line).encode("ascii") + b"\n")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Called for a request that is not HTTP, or has another method than GET and POST."""
        self.send_error_message(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def send_error_message(self, status: HTTPStatus, message: str) -> None:
        if self.is_streaming:
            self.stream({"error": message})
        else:
            self.send_json(status, {"error": message})

    def send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self.send_content(status, json.dumps(content).encode("ascii"), JSON)

    def send_content(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        self.send_headers(status, content_type, {"Content-Length": str(len(content))})
        self.wfile.write(content)

    def send_headers(self, status: HTTPStatus, content_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": content_type} | SECURITY_HEADERS | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments) -> None:
        """Requests are not logged: they are what the user says."""


def is_own_name(host: str, own_host: str) -> bool:
    """Whether a Host header is an IP address, which no other site can have as its name, or a name of this server. The
    port may be another one: that of a tunnel."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", own_host.lower(), socket.gethostname().lower())
    return True
