"""A local server that serves folders like the Hugging Face hub serves the commits of repositories.

The real client libraries are used unchanged. They read the environment when they are imported, so start them in a new
process with `LocalHub.variables`.
"""

import hashlib
import json
import re
import threading
from collections import namedtuple
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

COMMIT_ID = re.compile("[0-9a-f]{40}")
NAME = "(?P<name>[^/]+/[^/]+)"
FILE = re.compile(f"/(?P<kind>datasets/)?{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
API = re.compile(
    f"/api/(?P<kind>models|datasets)/{NAME}(/(?P<endpoint>[a-z-]+)(/(?P<revision>[^/]+)(/(?P<path>.+))?)?)?"
)
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
DATE = "2024-01-01T00:00:00.000Z"

Request = namedtuple("Request", "method path")


class Refused(Exception):
    """A request that gets an error response; the clients distinguish errors by `code`."""

    def __init__(self, status: int, code: str, **headers: str):
        super().__init__(code)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": code} | headers


@dataclass(frozen=True)
class Repository:
    name: str
    commits: dict[str, Path]  # folder of each commit, oldest first
    references: dict[str, str]  # commit of each branch and tag
    readers: tuple[str, ...] | None  # tokens that may read a gated repository; None: not gated

    def find_commit(self, revision: str) -> str:
        """Accepts a branch, a tag or a full commit id, as the hub does."""
        commit = self.references.get(revision, revision)
        if commit not in self.commits:
            raise Refused(404, "RevisionNotFound")
        return commit

    def read(self, commit: str, path: str) -> bytes:
        file = self.commits[commit] / path
        if {"/", ".."} & set(Path(path).parts) or not file.is_file():
            # With the commit in the headers, the client caches that the file does not exist.
            raise Refused(404, "EntryNotFound", **{"X-Repo-Commit": commit})
        return file.read_bytes()

    def check_reader(self, authorization: str | None) -> None:
        if self.readers is not None and authorization not in [f"Bearer {token}" for token in self.readers]:
            raise Refused(403 if authorization else 401, "GatedRepo")

    def list_entries(self, commit: str) -> dict[str, dict]:
        """Returns the API's description of each file and folder, by path."""
        entries = {}
        for entry in sorted(self.commits[commit].rglob("*")):
            path = entry.relative_to(self.commits[commit]).as_posix()
            entry_type, content = ("file", entry.read_bytes()) if entry.is_file() else ("directory", b"")
            entries[path] = {"type": entry_type, "path": path, "size": len(content), "oid": identify_blob(content)}
        return entries

    def list_tree(self, commit: str, folder: str, recursive: bool) -> list[dict]:
        prefix = f"{folder}/" if folder else ""
        entries = {path: entry for path, entry in self.list_entries(commit).items() if path.startswith(prefix)}
        if not entries:
            raise Refused(404, "EntryNotFound", **{"X-Repo-Commit": commit})
        return [entry for path, entry in entries.items() if recursive or "/" not in path.removeprefix(prefix)]

    def describe(self, commit: str) -> dict:
        files = [path for path, entry in self.list_entries(commit).items() if entry["type"] == "file"]
        gated = "manual" if self.readers is not None else False
        siblings = [{"rfilename": path} for path in files]
        return {"id": self.name, "sha": commit, "private": False, "gated": gated, "siblings": siblings}

    def list_commits(self, commit: str) -> list[dict]:
        commits = list(self.commits)
        history = reversed(commits[: commits.index(commit) + 1])
        return [{"id": name, "title": name[:7], "message": "", "authors": [], "date": DATE} for name in history]

    def list_references(self) -> dict:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in self.references.items()
        ]
        return {"branches": branches, "tags": [], "converts": [], "pullRequests": []}


def identify_blob(content: bytes) -> str:
    """Returns the id that git gives a file; the hub uses it as ETag."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class LocalHub(ThreadingHTTPServer):
    """Use it as `with LocalHub() as hub: hub.add(...)`; `hub.requests` holds the requests received."""

    daemon_threads = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def variables(self, home: Path) -> dict[str, str]:
        """Returns the environment variables for a client. Xet is disabled, because it needs another server."""
        variables = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return variables | {"NO_PROXY": "*", "no_proxy": "*"}

    def add(
        self,
        kind: str,
        name: str,
        commits: dict[str, Path],
        references: dict[str, str] | None = None,
        readers: tuple[str, ...] | None = None,
    ) -> None:
        """Adds a repository, replacing one with the same name.

        Args:
            kind: "model" or "dataset".
            commits: the folder of each commit, oldest first.
            references: the commit of each branch or tag; None: main at the last commit.
            readers: tokens that may read the files of a gated repository; None: not gated.
        """
        references = {"main": list(commits)[-1]} if references is None else references
        invalid = [commit for commit in commits if not COMMIT_ID.fullmatch(commit)]
        invalid += [commit for commit in references.values() if commit not in commits]
        if invalid or kind not in ("model", "dataset"):
            raise ValueError(f"{kind} {name}: unknown repository type or invalid commits: {invalid}")
        self.repositories[kind, name] = Repository(name, dict(commits), dict(references), readers)

    def find(self, url_part: str | None, name: str) -> Repository:
        kind = "dataset" if url_part in ("datasets", "datasets/") else "model"
        if (kind, name) not in self.repositories:
            raise Refused(404, "RepoNotFound")
        return self.repositories[kind, name]


class Handler(BaseHTTPRequestHandler):
    def answer(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        self.server.requests.append(Request(self.command, self.path))
        path, _, query = self.path.partition("?")
        try:
            if match := FILE.fullmatch(path):
                self.send_file(match)
            elif match := API.fullmatch(path):
                result = self.call_api(match, parse_qs(query), form)
                self.send(200, json.dumps(result).encode(), {"Content-Type": "application/json"})
            else:
                raise Refused(404, "NotFound")
        except Refused as refused:
            self.send(refused.status, json.dumps({"error": str(refused)}).encode(), refused.headers)

    do_GET = do_POST = do_HEAD = answer

    def call_api(self, url: re.Match, query: dict, form: dict) -> dict | list:
        repository = self.server.find(url["kind"], url["name"])
        commit = repository.find_commit(unquote(url["revision"] or "main"))
        match url["endpoint"]:
            case None | "revision":
                return repository.describe(commit)
            case "tree":
                recursive = query.get("recursive") == ["true"]
                return repository.list_tree(commit, unquote(url["path"] or ""), recursive)
            case "paths-info":
                entries = repository.list_entries(commit)
                return [entries[path] for path in form.get("paths", []) if path in entries]
            case "commits":
                return repository.list_commits(commit)
            case "refs":
                return repository.list_references()
            case "auth-check":
                repository.check_reader(self.headers.get("Authorization"))
                return {}
        raise Refused(404, "NotFound")

    def send_file(self, url: re.Match) -> None:
        repository = self.server.find(url["kind"], url["name"])
        repository.check_reader(self.headers.get("Authorization"))
        commit = repository.find_commit(unquote(url["revision"]))
        content = repository.read(commit, unquote(url["path"]))
        headers = {"X-Repo-Commit": commit, "ETag": f'"{identify_blob(content)}"', "Accept-Ranges": "bytes"}
        byte_range = RANGE.fullmatch(self.headers.get("Range", ""))
        if not byte_range:
            return self.send(200, content, headers)
        first, last = int(byte_range[1]), min(int(byte_range[2] or len(content)), len(content) - 1)
        if first > last:
            return self.send(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(206, content[first : last + 1], headers)

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        pass
