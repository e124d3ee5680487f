"""A web server of files on loopback that can break off, ask for credentials, lead elsewhere, and counts what it was asked."""

import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CREDENTIALS = ("ada", "s3cret")


class Files(ThreadingHTTPServer):
    """`content`: path -> bytes, below which the first part of the path says what is special:

    `/private/` asks for CREDENTIALS; `/broken/` sends half of what is asked for and closes, unless the request has a range;
    `/cut/` does so always; `/plain/` has no validators; `/moved/REST` leads to `/REST`; `/loop` to itself; `/error` is 503;
    `/page` is HTML; `/named/` says in a header that the file is called `iris.onnx`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that has seen enough closes the connection."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Files

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", send: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has what it wants to know
            self.wfile.write(body[:send])
        self.server.sent += len(body[:send])

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        kind = path.split("/")[1]
        if kind == "moved":
            return self.answer(302, Location=path.removeprefix("/moved"))
        if kind == "loop":
            return self.answer(302, Location="/loop")
        if kind == "error":
            return self.answer(503)
        if kind == "page":
            return self.answer(200, b"<html>Log in</html>", Content_Type="text/html; charset=utf-8")
        if kind == "private":
            good = base64.b64encode(":".join(CREDENTIALS).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {good}":
                return self.answer(401, WWW_Authenticate='Basic realm="models"')
        data = self.server.content.get(path)
        if data is None:
            return self.answer(404, b"nothing here")
        return self.file(kind, data)

    def file(self, kind: str, data: bytes) -> None:
        tag = f'"{hashlib.sha1(data).hexdigest()}"'
        headers = {} if kind == "plain" else {"ETag": tag}
        if kind == "named":
            headers["Content_Disposition"] = 'attachment; filename="../../iris.onnx"'
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == tag:
            at = int(asked.removeprefix("bytes=").removesuffix("-"))
            headers["Content_Range"] = f"bytes {at}-{len(data) - 1}/{len(data)}"
            send = (len(data) - at) // 2 if kind == "cut" else None
            self.close_connection = kind == "cut"
            return self.answer(206, data[at:], send, **headers)
        breaks = kind in ("broken", "cut")
        self.close_connection = breaks
        return self.answer(200, data, len(data) // 2 if breaks else None, **headers)


@contextlib.contextmanager
def running() -> Iterator[Files]:
    files = Files()
    thread = threading.Thread(target=files.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        files.shutdown()
        thread.join()
        files.server_close()
