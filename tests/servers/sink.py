"""A real HTTP server that takes CloudEvents in the binary mode, as a payload log's sink."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote


class Event:
    """What one POST brought: attributes (percent-decoded), all headers, data."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body
        self.attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class EventSink:
    """A context manager. `status` is what it answers; while `open` is clear it takes a request and says nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.connections = 0
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                sink.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sink.open.wait(60)
                sink.events.append(
                    Event(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                self.send_response(sink.status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is written."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that closes its connection is no error."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def of(self, kind: str) -> list[Event]:
        """The events of one kind: request or response."""
        return [event for event in self.events if event.attributes["type"] == f"org.kubeflow.serving.inference.{kind}"]

    def __enter__(self) -> "EventSink":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
