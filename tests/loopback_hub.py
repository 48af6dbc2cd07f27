"""A small Hub of our own on the loopback address, against which the real clients run.

It serves what `Hub.add` was given, at every commit, over the protocol that huggingface_hub speaks: what a
repository holds, small files directly and large ones from another host. Faults are functions that answer in
its place.
"""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".bin")  # files that come from another host
TOKENS = {"hf_member": True, "hf_stranger": False}  # may it read what is gated or private?

Files = Mapping[str, bytes]


@dataclass
class Repository:
    gated: bool = False
    private: bool = False
    commits: dict[str, Files] = field(default_factory=dict)  # the last one is main
    references: dict[str, str] = field(default_factory=dict)  # other names of commits

    def at(self, revision: str) -> str | None:
        if revision == "main":
            return list(self.commits)[-1]
        revision = self.references.get(revision, revision)
        return revision if revision in self.commits else None


class Request(NamedTuple):
    method: str
    path: str
    host: str
    token: str


class Hub:
    """The repositories, the faults, and the requests so far."""

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.daemon_threads = True
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.elsewhere = f"http://localhost:{self.server.server_port}"
        self.free = threading.Event()
        self.reset()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.free.set()  # whoever hangs
        self.free = threading.Event()
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.web: dict[str, bytes] = {}
        self.faults: list[tuple[str, Fault]] = []
        self.requests: list[Request] = []

    def add(self, kind: str, name: str, files: Files | Path, **access: bool) -> str:
        """Add a commit on main; return its hash."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        repository = self.repositories.setdefault((kind, name), Repository(**access))
        commit = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()  # noqa: S324
        repository.commits[commit] = dict(files)
        return commit

    def add_pull_request(self, name: str, files: Files) -> None:
        repository = self.repositories["model", name]
        commit = hashlib.sha1(f"pull request of {name}".encode()).hexdigest()  # noqa: S324
        repository.commits = {commit: files, **repository.commits}
        repository.references["refs/pr/15"] = commit

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[Request]]:
        """Collect the requests that are made inside the block."""
        seen: list[Request] = []
        before = len(self.requests)
        yield seen
        seen += self.requests[before:]


Fault = Callable[["_Handler"], bool]  # returns whether the request is done with


def hang(handler: "_Handler") -> bool:
    handler.hub.free.wait(60)
    handler.close_connection = True
    return True


def status(code: int, **headers: str) -> Fault:
    def answer(handler: "_Handler") -> bool:
        handler.answer(code, b"", {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return answer


def late(seconds: float) -> Fault:
    def wait(handler: "_Handler") -> bool:
        time.sleep(seconds)
        return False

    return wait


def break_off(after: int) -> Fault:
    """Close the connection after some bytes of the body."""

    def cut(handler: "_Handler") -> bool:
        handler.cut = after
        return False

    return cut


def login_page(handler: "_Handler") -> bool:
    handler.answer(
        200, b"<!DOCTYPE html><html>Please log in to this network.</html>", {"Content-Type": "text/html"}
    )
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cut: int | None = None

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def do_GET(self) -> None:
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.requests.append(Request(self.command, self.path, self.headers["Host"], self.token))
        self.cut = None
        with contextlib.suppress(ConnectionError):  # the client went away
            for pattern, fault in self.hub.faults:
                if re.search(pattern, f"{self.command} {self.path}") and fault(self):
                    return
            self.serve()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/web/"):
            content = self.hub.web.get(path)
            self.answer(404 if content is None else 200, content or b"")
        elif path.startswith("/large/"):
            self.large(path.rpartition("/")[2])
        elif self.token and self.token not in TOKENS:
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+?)(?:/(revision|tree)/(.+))?", path):
            kind, name, what, revision = found.groups()
            self.describe(kind, name, revision or "main", with_tree=what == "tree")
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            prefix, name, revision, file = found.groups()
            self.file("dataset" if prefix else "model", name, revision, file)
        else:
            self.refuse(404, "", "no such page")

    def describe(self, kind: str, name: str, revision: str, with_tree: bool) -> None:
        repository, commit = self.find(kind, name, revision)
        if repository is None:
            return
        files = repository.commits[commit]
        entries = []
        for file, content in files.items():
            entry = {"type": "file", "path": file, "oid": _etag(file, content)[:40], "size": len(content)}
            large = {"oid": _etag(file, content), "size": len(content), "pointerSize": 134}
            entries.append(entry | ({"lfs": large} if file.endswith(LARGE) else {}))
        siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in entries]
        info = {"id": name, "sha": commit, "siblings": siblings, "gated": repository.gated, "tags": []}
        content = json.dumps(entries if with_tree else info).encode()
        self.answer(200, content, {"Content-Type": "application/json"})

    def file(self, kind: str, name: str, revision: str, file: str) -> None:
        repository, commit = self.find(kind, name, revision)
        if repository is None:
            return
        if repository.gated and not TOKENS.get(self.token):
            self.refuse(403 if self.token else 401, "GatedRepo", f"Access to {kind} {name} is restricted.")
            return
        content = repository.commits[commit].get(file)
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        etag = _etag(file, content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if file.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{etag}"', "Location": f"{self.hub.elsewhere}/large/{etag}"}
            self.answer(302, b"", headers)
        else:
            self.answer(200, content, headers)

    def large(self, etag: str) -> None:
        repositories = self.hub.repositories.values()
        contents = [file for one in repositories for files in one.commits.values() for file in files.items()]
        content = next(content for file, content in contents if _etag(file, content) == etag)
        if self.token:
            self.answer(400, b"a token was sent to another host")
        elif found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            first = int(found[1])
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[first:], {"Content-Range": span})
        else:
            self.answer(200, content)

    def find(self, kind: str, name: str, revision: str) -> tuple[Repository | None, str]:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not TOKENS.get(self.token)):
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None, ""
        commit = repository.at(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None, ""
        return repository, commit

    def refuse(self, code: int, error: str, message: str) -> None:
        self.answer(code, b"", {"X-Error-Code": error, "X-Error-Message": message})

    def answer(self, code: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: self.cut])
        if self.cut is not None and self.cut < len(content):
            self.close_connection = True


def _etag(file: str, content: bytes) -> str:
    if file.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(content).hexdigest()  # noqa: S324


HUB = Hub()
