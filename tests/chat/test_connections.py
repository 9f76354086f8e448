"""The chat's server with more connections than it has threads or file descriptors for."""

import os
import signal
import socket
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT
from stub_writer import StubWriter
from test_server import request, serve

from response_generator.chat import server as chat_server


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=30)


def test_more_connections_than_the_limit_are_told_to_come_later(monkeypatch):
    monkeypatch.setattr(chat_server, "MAX_CONNECTIONS", 3)
    with serve(StubWriter()) as page:
        idle = [connect(page) for _ in range(3)]
        late = connect(page)
        late.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: late.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.0 503 ") and b"try again later" in answer
        for connection in (*idle, late):
            connection.close()
        statuses = [request(page, "GET", "/")[0] for _ in range(100)]  # the first ones may come before these have ended
        assert set(statuses[:-1]) <= {200, 503} and statuses[-1] == 200


def test_a_connection_that_is_reset_prints_nothing(capfd):
    with serve(StubWriter()) as page:
        connection = connect(page)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends a reset
        connection.sendall(b"GET / HT")
        connection.close()
        assert request(page, "GET", "/")[0] == 200
    assert capfd.readouterr().err == ""


FEW_DESCRIPTORS = """
import os, resource
from stub_writer import start_dialogue
from response_generator.chat.server import ChatServer

class CountingServer(ChatServer):
    attempts = 0

    def get_request(self):
        self.attempts += 1
        return super().get_request()

page = CountingServer("127.0.0.1", 0)
print(page.server_address[1], flush=True)
limit = len(os.listdir("/proc/self/fd")) + 8
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
page.serve(start_dialogue)
print(page.attempts)
"""


def test_without_free_file_descriptors_it_waits_and_then_answers(tmp_path):
    """A request is answered only after others have gone. Without waiting it would try some 10,000 times a second."""
    process = subprocess.Popen(
        [sys.executable, "-c", FEW_DESCRIPTORS],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'chat'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    page = SimpleNamespace(server_address=("127.0.0.1", int(process.stdout.readline())))
    opened = [connect(page) for _ in range(10)]
    waiting = connect(page)
    waiting.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    warning = process.stderr.readline()
    assert warning == "warning: connections have to wait: Too many open files\n"
    waiting.settimeout(1)
    with pytest.raises(TimeoutError):
        waiting.recv(1)
    for connection in opened:
        connection.close()
    waiting.settimeout(30)
    assert waiting.recv(12) == b"HTTP/1.0 200"
    waiting.close()
    assert request(page, "GET", "/")[0] == 200
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert int(said.split()[-1]) < 500
