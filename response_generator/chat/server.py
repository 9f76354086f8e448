"""The chat as a page in a browser, served by this process."""

import ipaddress
import secrets
import socket
import socketserver
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from response_generator.chat.dialogue import Dialogue
from response_generator.chat.page_handler import PageHandler
from response_generator.errors import InputError

MAX_DIALOGUES = 100  # one for every open page; the one that was not used for longest is dropped


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
        self.is_closing = False
        self.dialogues_lock = threading.Lock()
        self.dialogues: OrderedDict[str, Dialogue] = OrderedDict()
        try:
            super().__init__((host, port), PageHandler)
        except OSError as error:
            raise InputError(
                f"--serve {port}: {host} port {port} cannot be used ({error.strerror}); name another port: --serve PORT"
            ) from error

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own would look up the name of the address in the DNS

    def serve(self, start_dialogue: Callable[[], Dialogue]) -> None:
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

    def find_dialogue(self, name: str) -> Dialogue | None:
        with self.dialogues_lock:
            if name in self.dialogues:
                self.dialogues.move_to_end(name)
            return self.dialogues.get(name)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
