"""The client half of the platform's blobs against the server half, behind a real HTTP server."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.contract import BlobsContract
from mlaas.kernel.blobs.objects import FolderBlobs
from mlaas.kernel.blobs.platform import PlatformBlobs
from mlaas.kernel.blobs.upload import Uploads, WrongOffset, parse_range
from mlaas.kernel.errors import Error, Full, Malformed, Unauthenticated


class Platform(ThreadingHTTPServer):
    """Serves blobs from a folder; `cut` breaks that many connections half-way through the next bodies."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.blobs = FolderBlobs(folder / "blobs")
        self.uploads = Uploads(folder / "uploads", self.blobs)
        self.cut = 0
        self.received = 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None: ...


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Platform

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except Error as error:
            self.close_connection = True
            headers = {"Upload_Offset": str(error.offset)} if isinstance(error, WrongOffset) else {}
            self.answer(error.status, b"", **headers)

    def digest(self) -> str:
        if self.headers["Authorization"] != "Bearer secret":
            raise Unauthenticated
        return self.path.rpartition("/")[2]

    def do_HEAD(self) -> None:
        digest = self.digest()
        size = self.server.blobs.size(digest)
        if size is None:
            self.answer(404, Upload_Offset=str(self.server.uploads.offset(digest)))
        else:
            self.answer(200, length=size)

    def do_GET(self) -> None:
        digest = self.digest()
        size = self.server.blobs.size(digest)
        if size is None:
            self.answer(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked and start >= size:
            self.answer(416)
            return
        body = self.server.blobs.get(digest, start=start, end=int(asked[2]) + 1 if asked and asked[2] else None)
        if self.server.cut:
            self.server.cut -= 1
            self.answer(206 if asked else 200, body[: len(body) // 2], length=len(body))
            self.close_connection = True
            return
        self.answer(206 if asked else 200, body)

    def do_PUT(self) -> None:
        digest, length = self.digest(), int(self.headers["Content-Length"])
        start, end, total = parse_range(self.headers.get("Content-Range"), length)
        uploads = self.server.uploads
        body = self.rfile.read(length)
        self.server.received += length
        if self.server.cut and length:
            self.server.cut -= 1
            uploads.append(digest, body[: length // 2], start, total)
            self.close_connection = True
            return
        if not uploads.complete(digest):
            if end > start:
                uploads.append(digest, body, start, total)
            if not uploads.finish(digest, total):
                self.answer(202, Upload_Offset=str(uploads.offset(digest)))
                return
        self.answer(201)


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    server = Platform(tmp_path_factory.mktemp("platform"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def blobs(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformBlobs]:
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("secret\n")
    client = PlatformBlobs(f"http://127.0.0.1:{platform.server_port}/api/v1/projects/p/blobs", token, piece=1 << 20)
    yield client
    client.close()


class TestPlatform(BlobsContract):
    @pytest.fixture
    def blobs(self, blobs: PlatformBlobs) -> Blobs:
        return blobs


def test_a_broken_upload_goes_on_where_it_broke(platform: Platform, blobs: PlatformBlobs) -> None:
    data = os.urandom(4 << 20)
    platform.cut = 2
    digest = blobs.put(data)
    assert platform.blobs.get(digest) == data
    assert platform.received < 2 * len(data)


def test_a_broken_download_goes_on_where_it_broke(platform: Platform, blobs: PlatformBlobs, tmp_path: Path) -> None:
    data = os.urandom(4 << 20)
    digest = platform.blobs.put(data)
    platform.cut = 2
    blobs.fetch(digest, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data


def test_an_upload_that_came_whole_and_was_not_finished_is_completed(platform: Platform, blobs: PlatformBlobs) -> None:
    data = os.urandom(1000)
    platform.uploads.append(hashlib.sha256(data).hexdigest(), data, 0, len(data))
    digest = blobs.put(data)
    assert platform.blobs.get(digest) == data
    assert platform.received == 0


def test_a_late_writer_finds_the_blob_complete(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    uploads = Uploads(tmp_path / "uploads", blobs)
    digest = blobs.put(b"data")
    assert uploads.append(digest, b"da", 0, 4) == 2
    assert uploads.finish(digest, 4)
    assert uploads.offset(digest) == 0
    assert blobs.get(digest) == b"data"


def test_a_writer_that_opened_a_finished_upload_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    uploads = Uploads(tmp_path / "uploads", blobs)
    digest = hashlib.sha256(b"data").hexdigest()
    uploads.append(digest, b"data", 0, 4)
    real, finished = os.open, []

    def finish_in_between(*args: object, **kwargs: object) -> int:
        file = real(*args, **kwargs)  # type: ignore[arg-type]
        if not finished:
            finished.append(True)
            assert uploads.finish(digest, 4)
        return file

    monkeypatch.setattr(os, "open", finish_in_between)
    assert uploads.append(digest, b"da", 0, 4) == 2
    assert uploads.finish(digest, 4)
    assert blobs.get(digest) == b"data"


def test_uploads_that_stopped_are_forgotten(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", FolderBlobs(tmp_path / "blobs"))
    uploads.append("0" * 64, b"12345", 0, 10)
    uploads.expire((tmp_path / "uploads" / ("0" * 64)).stat().st_mtime)
    assert uploads.offset("0" * 64) == 5
    uploads.expire((tmp_path / "uploads" / ("0" * 64)).stat().st_mtime + 1)
    assert uploads.offset("0" * 64) == 0


def test_what_is_there_is_not_sent_again(platform: Platform, blobs: PlatformBlobs) -> None:
    data = os.urandom(1000)
    platform.blobs.put(data)
    blobs.put(data)
    assert platform.received == 0


def test_a_wrong_token_is_said(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("guess")
    client = PlatformBlobs(f"http://127.0.0.1:{platform.server_port}/blobs", tmp_path / "token")
    with pytest.raises(Unauthenticated):
        client.put(b"x")
    client.close()


def test_bytes_of_another_hash_are_refused_and_forgotten(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    uploads = Uploads(tmp_path / "uploads", blobs)
    assert uploads.append("0" * 64, b"not this", 0, 8) == 8
    with pytest.raises(Error, match="not 0000"):
        uploads.finish("0" * 64, 8)
    assert uploads.offset("0" * 64) == 0
    assert list(blobs.list()) == []


def test_more_than_was_said_is_refused(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", FolderBlobs(tmp_path / "blobs"), largest=10)
    with pytest.raises(Error, match="larger"):
        uploads.append("0" * 64, b"12345", 0, 4)
    with pytest.raises(Error, match="larger"):
        uploads.append("0" * 64, b"12345", 0, 11)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    uploads = Uploads(tmp_path / "uploads", FolderBlobs(tmp_path / "blobs"))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Full):
        uploads.append("0" * 64, b"12345", 0, 5)


@pytest.mark.parametrize(
    "header", ["bytes 0-5/5", "bytes 5-4/10", "items 0-1/2", "bytes 0-/5", "0-1/2", "bytes -1-2/3"]
)
def test_ranges_that_are_none(header: str) -> None:
    with pytest.raises(Malformed):
        parse_range(header, 6)
