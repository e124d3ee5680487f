"""Real servers in processes of their own, and a client that speaks HTTP/1.1 by hand."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]


@dataclass
class Answer:
    """A reply: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error's text: every error has this body and no other key."""
        document = self.json()
        assert isinstance(document.get("error"), str), document
        return str(document["error"])


class Wire:
    """A socket to the server."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "POST") -> Answer:
        """The next reply. Raises EOFError where the server has closed the connection instead."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if status == 100:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                self._exactly(2)
            self._exactly(2)
        elif "content-length" in headers and method != "HEAD":
            body = self._exactly(int(headers["content-length"]))
        else:
            body = b""
        return Answer(status, headers, body)

    def closed(self) -> bool:
        """Whether the server closes the connection now, without sending anything more."""
        if self._buffer:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(f"the server closed the connection after {self._buffer!r}")
        self._buffer += data

    def close(self) -> None:
        self.socket.close()

    def __del__(self) -> None:
        self.socket.close()


def message(
    method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, version: str = "1.1"
) -> bytes:
    """A request as bytes; a body has its Content-Length unless the headers have a length already."""
    found = {"Host": "localhost", **(headers or {})}
    if body is not None and not {"content-length", "transfer-encoding"} & {name.lower() for name in found}:
        found["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in found.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


class Client:
    """One connection, opened again when the server has closed it; with `keep` False one for each request."""

    def __init__(self, port: int, keep: bool = True) -> None:
        self.port = port
        self.keep = keep
        self.base = f"127.0.0.1:{port}"
        self._wire: Wire | None = None

    def __call__(
        self,
        method: str,
        path: str,
        body: bytes | str | dict[str, Any] | list[Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        if isinstance(body, dict | list):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if body is None and method == "POST":
            body = b""
        if self._wire is None:
            self._wire = Wire(self.port)
        self._wire.send(message(method, path, body, headers))
        answer = self._wire.answer(method)
        if answer.headers.get("connection") == "close" or not self.keep:
            self.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def wire(self, timeout: float = 10.0) -> Wire:
        return Wire(self.port, timeout)

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None


def start(*arguments: str) -> tuple["subprocess.Popen[str]", int]:
    """A server process and its port."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.modelserver.http.server", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    return process, int(line)


def stop(process: "subprocess.Popen[str]") -> str:
    """End it; what it wrote to standard error."""
    process.terminate()
    return ended(process)


def ended(process: "subprocess.Popen[str]") -> str:
    """Wait for its end; what it wrote to standard error."""
    _, errors = process.communicate(timeout=15)
    return errors


def _client(*arguments: str) -> Iterator[Client]:
    process, port = start(*arguments)
    client = Client(port, keep="--hasty" not in arguments)
    yield client
    client.close()
    errors = stop(process)
    assert process.returncode == 0, errors


@pytest.fixture(scope="session")
def http() -> Iterator[Client]:
    """A server with the default limits, open to all."""
    yield from _client()


@pytest.fixture(scope="session")
def hasty() -> Iterator[Client]:
    """A server with short time-outs and small limits."""
    yield from _client("--hasty")


@pytest.fixture(scope="session")
def guarded() -> Iterator[Client]:
    """A server with tokens."""
    yield from _client("--tokens")
