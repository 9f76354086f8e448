"""The chat as a page in a browser, served by this process."""

import errno
import ipaddress
import json
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from response_generator.chat.dialogue import Conversation
from response_generator.chat.page_handler import PageHandler
from response_generator.errors import InputError

MAX_DIALOGUES = 100  # one for every open page; the one that was not used for longest is dropped
MAX_CONNECTIONS = 100  # each has a thread; a page has one for each request that is not answered yet
BUSY = json.dumps({"error": f"{MAX_CONNECTIONS} requests are being answered already; try again later"})
BUSY_ANSWER = (
    f"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(BUSY)}\r\n\r\n{BUSY}"
).encode("ascii")
EXHAUSTED_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
EXHAUSTED_WAIT_SECONDS = 0.5


class ChatServer(ThreadingHTTPServer):
    """Listens from the start, and answers once `serve` is called.

    Raises:
        InputError: when the address cannot be used.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host = host
        self.one_at_a_time = threading.Lock()  # replies and other changes
        self.free_connections = threading.Semaphore(MAX_CONNECTIONS)
        self.was_exhausted = False
        self.is_closing = False
        self.dialogues_lock = threading.Lock()
        self.dialogues: OrderedDict[str, Conversation] = OrderedDict()
        try:
            super().__init__((host, port), PageHandler)
        except OSError as error:
            is_foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            hint = "an address of this machine: --host ADDRESS" if is_foreign else "another port: --serve PORT"
            raise InputError(
                f"--serve {port}: {host} port {port} cannot be used ({error.strerror}); name {hint}"
            ) from error

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own would look up the name of the address in the DNS

    def get_request(self) -> tuple[socket.socket, tuple]:
        """Accepts a connection. While the system has no file descriptors left it first waits, because the connection
        stays there to be accepted and `serve_forever` would call this again at once."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in EXHAUSTED_ERRNOS:
                if not self.was_exhausted:
                    print(f"warning: connections have to wait: {error.strerror}", file=sys.stderr)
                self.was_exhausted = True
                time.sleep(EXHAUSTED_WAIT_SECONDS)
            raise

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        """Answers in a new thread, or says that there are too many."""
        if not self.free_connections.acquire(blocking=False):
            request.sendall(BUSY_ANSWER)  # which does not wait: nothing was sent on this connection before
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started, which would release it
            self.free_connections.release()
            raise

    def process_request_thread(self, request: socket.socket, client_address: tuple) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free_connections.release()

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # the other side has gone
            super().handle_error(request, client_address)

    def serve(self, start_dialogue: Callable[[], Conversation]) -> None:
        """Answers requests until Ctrl-C or SIGTERM."""
        self.start_dialogue = start_dialogue
        if not is_loopback(self.host):
            print(f"warning: there is no password; everybody who reaches {self.host} can use this chat", flush=True)
        host = f"[{self.host}]" if ":" in self.host else self.host
        print(f"open http://{host}:{self.server_address[1]}/ in a browser; Ctrl-C ends the chat", flush=True)
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            print()
        finally:
            self.is_closing = True  # stops the reply that is being written
            self.one_at_a_time.acquire()  # and is not released, so that no other one starts
            self.server_close()

    def open_dialogue(self) -> str:
        """Starts a dialogue and returns its id."""
        name = secrets.token_hex(16)
        with self.dialogues_lock:
            self.dialogues[name] = self.start_dialogue()
            if len(self.dialogues) > MAX_DIALOGUES:
                self.dialogues.popitem(last=False)
        return name

    def find_dialogue(self, name: str) -> Conversation | None:
        with self.dialogues_lock:
            if name in self.dialogues:
                self.dialogues.move_to_end(name)
            return self.dialogues.get(name)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
