"""A hub that takes uploads, on this machine: the part of its interface that an upload uses."""

import base64
import json
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "hf_secretOfTest"
REPOSITORY = "someone/response-generator"
FILES = {
    "adapter_model.safetensors": bytes(range(256)) * 40,
    "adapter_config.json": b'{"peft_type": "LORA"}\n',
    "README.md": "---\nlibrary_name: peft\n---\n# é\n".encode(),
}

Request = namedtuple("Request", "method path authorization body")


class SmallHub(ThreadingHTTPServer):
    """Answers the requests of an upload and stores what it receives."""

    daemon_threads = True

    def __init__(self, failing: tuple[str, int] = ("nothing", 0)):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failing = failing  # requests with this text in their path get this error status
        self.requests: list[Request] = []
        self.large: dict[str, bytes] = {}  # large files by their hash

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sent_to(self, part: str) -> list[Request]:
        return [request for request in self.requests if part in request.path]

    def files(self) -> dict[str, bytes]:
        """Returns the files of the commit: small ones are in the request, large ones were uploaded before."""
        (commit,) = self.sent_to("/commit/main")
        entries = [json.loads(line) for line in commit.body.splitlines()]
        small = [entry["value"] for entry in entries if entry["key"] == "file"]
        large = [entry["value"] for entry in entries if entry["key"] == "lfsFile"]
        contents = {file["path"]: base64.b64decode(file["content"]) for file in small}
        return contents | {file["path"]: self.large[file["oid"]] for file in large}

    def answer(self, request: Request) -> tuple[int, dict]:
        path, status = self.failing
        if path in request.path:
            # A server may quote the token in its error message.
            return status, {"error": f"refused, with {request.authorization}"}
        if request.path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(request.body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
            files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            return 200, {"files": files}
        if request.path.endswith("/objects/batch"):
            objects = json.loads(request.body)["objects"]
            actions = [{"actions": {"upload": {"href": f"{self.url}/put/{entry['oid']}"}}} for entry in objects]
            return 200, {"objects": [entry | action for entry, action in zip(objects, actions, strict=True)]}
        if request.path.startswith("/put/"):
            self.large[request.path.rpartition("/")[2]] = request.body
            return 200, {}
        return 200, {
            "url": f"{self.url}/{REPOSITORY}",
            "commitUrl": f"{self.url}/{REPOSITORY}/commit/1",
            "commitOid": "1" * 40,
        }


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers.get("Authorization"), body)
        self.server.requests.append(request)
        status, value = self.server.answer(request)
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if "error" in value:
            self.send_header("X-Error-Message", value["error"])
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def log_message(self, *args) -> None:
        pass
