"""A Hugging Face hub on loopback: the few routes that resolving and downloading a repository use, from folders on disk."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Serves `folder/{models,datasets}/<org>/<name>/` as repositories whose `main` is one commit, named by their content.
    A repository with `gated` in its name asks for the token `hf_good`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, kind: str, repo: str) -> dict[str, bytes] | None:
        folder = self.folder / kind / repo
        if not folder.is_dir():
            return None
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def commit(self, kind: str, repo: str) -> str:
        return hashlib.sha1(repr(self.files(kind, repo)).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(/revision/(.+)|/tree/([^/]+).*)?", path):
            kind, repo, _, revision, tree = match.groups()
            if self.admitted(kind, repo, revision or tree):
                self.describe(kind, repo, bool(tree))
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = "datasets" if match[1] else "models"
            if self.admitted(kind, match[2], match[3]):
                self.send(kind, match[2], match[4])
        else:
            self.answer(404)

    def admitted(self, kind: str, repo: str, revision: str | None) -> bool:
        if self.server.files(kind, repo) is None:
            self.answer(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif "gated" in repo and self.headers.get("Authorization") != "Bearer hf_good":
            self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access to this repository is restricted")
        elif revision not in (None, "main", self.server.commit(kind, repo)):
            self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid revision")
        else:
            return True
        return False

    def describe(self, kind: str, repo: str, tree: bool) -> None:
        files = self.server.files(kind, repo) or {}
        listed = [{"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files.items()]
        commit = self.server.commit(kind, repo)
        info = {
            "id": repo,
            "sha": commit,
            "private": False,
            "siblings": [{"rfilename": name} for name in files],
            "tags": [],
        }
        self.answer(200, json.dumps(listed if tree else info).encode(), Content_Type="application/json")

    def send(self, kind: str, repo: str, name: str) -> None:
        data = (self.server.files(kind, repo) or {}).get(name)
        if data is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found")
            return
        self.answer(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=self.server.commit(kind, repo))


def _oid(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
