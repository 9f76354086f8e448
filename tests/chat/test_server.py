"""What the server of the chat's page answers and refuses."""

import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest
from stub_writer import StubWriter, start_dialogue

from response_generator.chat import server as chat_server
from response_generator.chat.page_handler import FILES, MAX_BODY_BYTES, is_own_name
from response_generator.chat.server import ChatServer

JSON = {"Content-Type": "application/json"}


@contextmanager
def serve(writer, host: str = "127.0.0.1"):
    """A server on a free port, in a thread; it is closed at the end."""
    page = ChatServer(host, 0)
    thread = threading.Thread(target=page.serve, args=[lambda: start_dialogue(writer)])
    thread.start()
    try:
        yield page
    finally:
        page.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server():
    with serve(StubWriter()) as page:
        yield page


def request(server, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
    """Returns status, headers and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def post(server, path: str, **values) -> tuple[int, list]:
    """Returns the status and the lines of JSON of the answer."""
    status, _, body = request(server, "POST", path, json.dumps(values).encode("utf-8"), JSON)
    return status, [json.loads(line) for line in body.splitlines()]


def open_dialogue(server) -> str:
    status, (state,) = post(server, "/open")
    assert status == 200
    return state["dialogue"]


def test_it_listens_on_this_machine_alone(server):
    """Another address of this machine than 127.0.0.1 is refused, although all of 127.0.0.0/8 leads to it."""
    port = server.server_address[1]
    assert server.server_address == ("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=10)


def test_a_dialogue(server):
    name = open_dialogue(server)
    status, lines = post(server, "/say", dialogue=name, text="Hello !")
    assert status == 200
    assert lines[:-1] == [{"adapter": "SFT", "text": word} for word in "SFT with seed 42 after 1".split()]
    (turn,) = lines[-1]["turns"]
    assert (turn["text"], turn["emotion"], turn["chosen"]) == ("Hello !", "happiness", "SFT")
    assert turn["replies"][0]["facts"].startswith("target neutral not followed (0.12), it is anger (0.75)")
    assert turn["replies"][0]["is_followed"] is False

    post(server, "/settings", dialogue=name, emotion="anger", user_emotion="fear", adapter="DPO")
    _, lines = post(server, "/again", dialogue=name, seed=7)
    assert [reply["text"] for reply in lines[-1]["turns"][0]["replies"]] == ["DPO with seed 7 after 1"]
    _, lines = post(server, "/say", dialogue=name, text="Why ?", all_adapters=True)
    assert [reply["adapter"] for reply in lines[-1]["turns"][1]["replies"]] == ["SFT", "DPO", "base"]
    _, (state,) = post(server, "/choose", dialogue=name, adapter="base")
    assert (state["adapter"], state["turns"][1]["chosen"], state["turns"][1]["emotion"]) == ("base", "base", "fear")
    _, (row,) = post(server, "/row", dialogue=name)
    assert [message["content"]["dialog"] for message in row["prompt"]][2:] == ["Why ?", "base with seed 42 after 3"]
    _, (state,) = post(server, "/undo", dialogue=name)
    assert len(state["turns"]) == 1
    _, (state,) = post(server, "/new", dialogue=name)
    assert state["turns"] == []


def test_dialogues_are_apart(server):
    one, other = open_dialogue(server), open_dialogue(server)
    post(server, "/say", dialogue=one, text="Hello !")
    assert post(server, "/show", dialogue=other)[1][0]["turns"] == []
    assert len(post(server, "/show", dialogue=one)[1][0]["turns"]) == 1


def test_the_dialogue_that_was_not_used_for_longest_is_dropped(server, monkeypatch):
    monkeypatch.setattr(chat_server, "MAX_DIALOGUES", len(server.dialogues) + 2)
    kept, dropped = open_dialogue(server), open_dialogue(server)
    for name in [name for name in server.dialogues if name not in (kept, dropped)]:
        server.find_dialogue(name)
    server.find_dialogue(kept)
    open_dialogue(server)
    assert post(server, "/show", dialogue=kept)[0] == 200
    assert post(server, "/show", dialogue=dropped) == (
        404,
        [{"error": "this dialogue is no longer kept; reload the page to start anew"}],
    )


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "message"),
    [
        ("GET", "/", {"Host": "other.example"}, 403, "Host 'other.example' is not this server"),
        ("POST", "/open", JSON | {"Host": "other.example:8000"}, 403, "is not this server"),
        ("POST", "/open", JSON | {"Origin": "http://other.example"}, 403, "Origin 'http://other.example' is another"),
        ("POST", "/open", JSON | {"Origin": "null"}, 403, "Origin 'null' is another site"),
        ("POST", "/open", {"Content-Type": "text/plain"}, 415, "needed: Content-Type application/json"),
        ("POST", "/open", JSON | {"Content-Length": "-1"}, 411, "needed: Content-Length"),
        ("POST", "/open", JSON | {"Content-Length": str(MAX_BODY_BYTES + 1)}, 413, "has 100001 bytes; allowed: 100000"),
        ("GET", "/missing", {}, 404, "there is no such page"),
        ("GET", "/../reply_writer.py", {}, 404, "there is no such page"),
        ("GET", "/say", {}, 404, "there is no such page"),
        ("PUT", "/", {}, 501, "Unsupported method ('PUT')"),
    ],
)
def test_refused_requests(server, method, path, headers, status, message):
    answered, answer_headers, body = request(server, method, path, b"{}" if method == "POST" else None, headers)
    assert (answered, answer_headers.get_content_type()) == (status, "application/json")
    assert message in json.loads(body)["error"]


@pytest.mark.parametrize(
    ("path", "values", "status", "message"),
    [
        ("/missing", {}, 404, "there is no such action"),
        ("/say", {"text": " "}, 400, "the message is empty"),
        ("/say", {"text": "\udcff"}, 400, "the message holds U+DCFF"),
        ("/say", {"text": 1}, 400, "text: got 1"),
        ("/say", {"message": "Hello"}, 400, "message"),
        ("/again", {}, 400, "there is no message yet"),
        ("/again", {"seed": "x"}, 400, "seed: got 'x'"),
        ("/settings", {"emotion": "joyful"}, 400, "'joyful' is no label"),
        ("/settings", {"adapter": "x"}, 400, "'x' is no adapter; allowed: SFT, DPO, base"),
        ("/row", {}, 400, "there is no message yet"),
    ],
)
def test_wrong_actions(server, path, values, status, message):
    answered, (answer,) = post(server, path, dialogue=open_dialogue(server), **values)
    assert answered == status
    assert message in answer["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"text": NaN}', b"[" * 50_000])
def test_a_body_that_is_no_object_is_refused(server, body):
    status, _, answer = request(server, "POST", "/open", body, JSON)
    assert status == 400
    assert json.loads(answer)["error"]


def test_the_page_loads_nothing_from_elsewhere(server):
    for path in FILES:
        status, headers, body = request(server, "GET", path)
        assert (status, len(body) > 100) == (200, True)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
        assert b"http://" not in body and b"https://" not in body


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8000", True),
        ("localhost:9000", True),
        ("[::1]:8000", True),
        ("10.0.0.5", True),
        ("chat.example", True),
        ("CHAT.example:80", True),
        ("other.example", False),
        ("127.0.0.1.other.example", False),
        ("localhost.other.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_names_of_the_server(host, is_own):
    assert is_own_name(host, "chat.example") == is_own


class WaitingWriter(StubWriter):
    """Its first reply waits for `may_end`; `second` is set when another one begins meanwhile."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.may_end = threading.Event(), threading.Event(), threading.Event()

    def write(self, history, emotion, name, seed, show):
        if self.first.is_set():
            self.second.set()
        self.first.set()
        assert self.may_end.wait(30)
        return super().write(history, emotion, name, seed, show)


@pytest.mark.parametrize(("path", "values"), [("/say", {"text": "two"}), ("/settings", {"adapter": "DPO"})])
def test_one_reply_or_change_at_a_time(path, values):
    """Each answer shows the dialogue as its own request left it, not what a waiting one did after it."""
    writer = WaitingWriter()
    with serve(writer) as page, ThreadPoolExecutor() as pool:
        name = open_dialogue(page)
        first = pool.submit(post, page, "/say", dialogue=name, text="one")
        assert writer.first.wait(30)
        second = pool.submit(post, page, path, dialogue=name, **values)
        assert post(page, "/show", dialogue=name)[1][0]["turns"] == []  # what only reads does not wait
        assert wait([second], 0.3).not_done and not writer.second.is_set()
        writer.may_end.set()
        status, lines = first.result(30)
        other_status, other_lines = second.result(30)
    assert (status, other_status) == (200, 200)
    assert [turn["text"] for turn in lines[-1]["turns"]] == ["one"]
    assert [turn["text"] for turn in other_lines[-1]["turns"]] == ["one", "two"][: 2 if path == "/say" else 1]


def test_a_closed_page_stops_its_reply():
    """The dialogue stays as it was, and the next request is answered."""
    writer = WaitingWriter()
    writer.may_end.set()
    with serve(writer) as page:
        name = open_dialogue(page)
        page.is_closing = True  # as Ctrl-C in the terminal does
        with pytest.raises(http.client.RemoteDisconnected):
            post(page, "/say", dialogue=name, text="one")
        page.is_closing = False
        assert post(page, "/show", dialogue=name)[1][0]["turns"] == []
        assert post(page, "/say", dialogue=name, text="two")[0] == 200


def test_a_warning_says_that_other_machines_can_use_the_chat(capsys):
    with serve(StubWriter(), "0.0.0.0"):
        pass
    assert "warning: there is no password; everybody who reaches 0.0.0.0 can use this chat" in capsys.readouterr().out
    for host in ("127.0.0.1", "localhost", "::1"):
        assert chat_server.is_loopback(host)
