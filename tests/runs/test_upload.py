"""Uploads with the real huggingface_hub client to a small local hub: what arrives, and what a failure prints."""

import json
import os
import shlex
import socket
import subprocess
import sys
import threading

import pytest
from conftest import ROOT
from script_process import HANG_SECONDS
from script_runs import script_environment
from small_hub import FILES, REPOSITORY, SECRET, SmallHub

from response_generator.config.schema import HubArguments
from response_generator.runs import upload

PUSH = (
    "import sys; from pathlib import Path; from response_generator.runs import upload; "
    "from response_generator.config.schema import HubArguments; "
    "print('url:', upload.push_adapter(Path(sys.argv[1]), HubArguments(repo_id=sys.argv[2]))); "
    "print('the run goes on')"
)


@pytest.fixture
def small_hub():
    started = []

    def start(*failing) -> SmallHub:
        server = SmallHub(*failing)
        started.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "a run" / "adapter"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def environment(home, endpoint: str) -> dict[str, str]:
    """Xet is disabled, because it needs another server; without it large files are sent by plain HTTP."""
    variables = {"HF_ENDPOINT": endpoint, "HF_TOKEN": SECRET, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
    return script_environment() | variables


def push_in_another_process(folder, endpoint: str, home) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PUSH, str(folder.parent), REPOSITORY]
    environ = environment(home, endpoint) | {
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"
    }  # so only our code can send the token
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )


@pytest.fixture
def push_here(adapter, monkeypatch):
    """Pushes in this process, which is faster; the constants that were read at import are patched."""

    def push(endpoint: str, private: bool = True, token: str = SECRET) -> str | None:
        import huggingface_hub

        monkeypatch.setenv("HF_TOKEN", token)
        for name, value in {"ENDPOINT": endpoint, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        try:
            return upload.push_adapter(adapter.parent, HubArguments(repo_id=REPOSITORY, private=private))
        finally:
            huggingface_hub.close_session()  # the session keeps the timeout that the upload has set

    return push


def test_a_data_set_is_uploaded_with_its_card_alone(small_hub, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    server = small_hub()
    for name in (*upload.DATASET_FILES, "args.json"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for name, value in {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    url = upload.push_dataset(tmp_path, HubArguments(repo_id="someone/pairs"))
    huggingface_hub.close_session()
    assert url and "push_to_hub: the preference data is at" in capsys.readouterr().out
    assert set(server.files()) == set(upload.DATASET_FILES)
    (created,) = server.sent_to("/api/repos/create")
    assert json.loads(created.body)["type"] == "dataset"
    command = shlex.split(upload.upload_command(tmp_path, HubArguments(repo_id="someone/pairs"), "dataset"))
    assert command[1:7] == ["upload", "someone/pairs", str(tmp_path), "--private", "--repo-type", "dataset"]
    assert command[7:] == [part for name in upload.DATASET_FILES for part in ("--include", name)]


def check_uploaded(server: SmallHub, visibility: str) -> None:
    assert server.files() == FILES
    (created,) = server.sent_to("/api/repos/create")
    body = json.loads(created.body)
    assert (body["organization"], body["name"], body["visibility"]) == ("someone", "response-generator", visibility)
    assert {request.authorization for request in server.requests} <= {f"Bearer {SECRET}", None}
    for part in ("/api/repos/create", "/preupload/main", "/objects/batch", "/commit/main"):
        assert {request.authorization for request in server.sent_to(part)} == {f"Bearer {SECRET}"}, part


def check_failure_message(stderr: str, folder, reason: str) -> None:
    *progress, line = stderr.splitlines()
    assert not [text for text in progress if text.startswith(("push_to_hub", "Traceback"))]
    assert line.startswith("push_to_hub: ") and reason in line
    assert line.endswith(f"hf upload {REPOSITORY} '{folder}' --private")
    assert SECRET not in stderr


def test_files_are_uploaded_with_the_token_of_the_environment(adapter, small_hub, tmp_path):
    server = small_hub()
    (tmp_path / "token").write_text("hf_ofAFile", encoding="utf-8")  # must not be used
    done = push_in_another_process(adapter, server.url, home=tmp_path)
    url = f"{server.url}/{REPOSITORY}"
    assert done.stdout == f"push_to_hub: the DPO adapter is at {url}\nurl: {url}\nthe run goes on\n", done.stderr
    check_uploaded(server, "private")
    assert SECRET not in done.stderr


def test_a_repository_is_public_when_private_is_false(small_hub, push_here):
    server = small_hub()
    assert push_here(server.url, private=False) == f"{server.url}/{REPOSITORY}"
    check_uploaded(server, "public")


def test_a_refused_upload_is_reported_without_the_token_and_the_run_goes_on(adapter, small_hub, tmp_path):
    server = small_hub(("/commit/main", 403))
    done = push_in_another_process(adapter, server.url, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "url: None\nthe run goes on\n")
    check_failure_message(done.stderr, adapter, "403 Forbidden: refused, with Bearer ***")


@pytest.mark.parametrize(
    ("part", "status", "reason"),
    [
        ("/api/repos/create", 500, "HfHubHTTPError"),
        ("/api/", 403, "403 Forbidden: refused, with Bearer ***"),
        ("/validate-yaml", 400, "Invalid metadata in README.md"),
        ("/objects/batch", 404, "404"),
    ],
)
def test_each_refused_request_is_reported(adapter, small_hub, push_here, capfd, part, status, reason):
    server = small_hub((part, status))
    assert push_here(server.url) is None
    check_failure_message(capfd.readouterr().err, adapter, reason)
    assert server.sent_to(part)


def test_an_unreachable_hub_is_reported(adapter, push_here, capfd):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound but not listening, so connections are refused
        assert push_here(f"http://127.0.0.1:{reserved.getsockname()[1]}") is None
    check_failure_message(capfd.readouterr().err, adapter, "ConnectError")


def test_a_hub_that_does_not_answer_ends_in_a_timeout(adapter, push_here, monkeypatch, capfd):
    monkeypatch.setattr(upload, "UPLOAD_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert push_here(f"http://127.0.0.1:{silent.getsockname()[1]}") is None
    check_failure_message(capfd.readouterr().err, adapter, "ReadTimeout")


def test_an_upload_that_did_not_succeed_is_told_later(adapter, small_hub, push_here, capfd):
    run, settings = adapter.parent, HubArguments(repo_id=REPOSITORY)

    def describe() -> list[str]:
        return upload.describe_missing_upload(run, settings, "model")

    to_do = f"to upload it yourself: {upload.upload_command(run, settings, 'model')}"
    assert describe() == [f"push_to_hub: the DPO adapter was not uploaded; {to_do}"]  # killed before
    assert upload.describe_missing_upload(run, None, "model") == []
    push_here(small_hub(("/commit/main", 403)).url)
    (line,) = describe()
    assert line.startswith("push_to_hub: the DPO adapter was not uploaded (") and line.endswith(f"); {to_do}")
    assert "403 Forbidden: refused, with Bearer ***" in line and SECRET not in (run / upload.UPLOAD_FILE).read_text()
    push_here(small_hub().url)
    assert describe() == []
    (run / upload.UPLOAD_FILE).unlink()
    (run / f"{upload.UPLOAD_FILE}.part").mkdir()  # so that the record cannot be written
    assert push_here(small_hub().url)
    assert "upload.json: could not be written (Is a directory)" in capfd.readouterr().err


@pytest.mark.slow
def test_the_printed_command_uploads_the_adapter(adapter, small_hub, tmp_path):
    server = small_hub()
    command = shlex.split(upload.upload_command(adapter.parent, HubArguments(repo_id=REPOSITORY), "model"))
    environ = environment(tmp_path, server.url)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    check_uploaded(server, "private")


@pytest.mark.parametrize("token", ["", " \n", f"{SECRET}\nX-Other: 1", f"{SECRET} é"])
def test_an_invalid_token_is_refused_and_not_printed(small_hub, push_here, capfd, token):
    server = small_hub()
    assert push_here(server.url, token=token) is None
    assert server.requests == []
    (message,) = upload.find_upload_errors(HubArguments(repo_id=REPOSITORY))
    out, err = capfd.readouterr()
    assert err.startswith(message) and message.startswith("push_to_hub: HF_TOKEN ")
    assert SECRET not in out + err


@pytest.mark.parametrize("repo_id", ["", "name", "/name", "owner/", "a/b/c", "./run", "owner/na me", "owner/-name"])
def test_an_invalid_repository_name_is_refused(monkeypatch, repo_id):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (message,) = upload.find_upload_errors(HubArguments(repo_id=repo_id))
    assert message.startswith(f"push_to_hub.repo_id: got {repo_id!r}; allowed: owner/name")


def test_a_valid_upload_and_no_upload_give_no_error(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert upload.find_upload_errors(HubArguments(repo_id=REPOSITORY)) == []
    monkeypatch.delenv("HF_TOKEN")
    assert upload.find_upload_errors(None) == []


@pytest.mark.slow
def test_the_export_module_imports_no_torch():
    code = "import sys; from response_generator import export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), check=False).returncode == 0
