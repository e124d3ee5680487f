"""Blobs of a platform over HTTP: for runtimes on other machines. The protocol is in `upload.py`."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.objects import check_digest, verified_fetch
from mlaas.kernel.blobs.tree import hash_file
from mlaas.kernel.errors import (
    Conflict,
    Error,
    Forbidden,
    Full,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_ERRORS: dict[int, type[Error]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    507: Full,
}


PATIENCE = 60.0
"""Seconds for which an upload may stand still while others upload the same blob."""


class PlatformBlobs(Blobs):
    """`uri` is `http(s)://host/api/v1/projects/{project}/blobs`; `token_file` holds the bearer token and is read for each
    request, so that a renewed token is used. A broken connection is tried again, and goes on where it broke.

    `list` and `delete` are the platform's own affair: they raise Forbidden here.
    """

    def __init__(
        self, uri: str, token_file: str | Path | None = None, piece: int = 8 << 20, verify: str | bool = True
    ) -> None:
        self._uri = uri.rstrip("/")
        self._token_file = Path(token_file) if token_file else None
        self._piece = piece
        self._client = httpx2.Client(timeout=httpx2.Timeout(60, connect=5), verify=verify, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def put(self, data: bytes | Path) -> str:
        """As `Blobs.put`; also with others that put the same blob at the same time: all go on from what any of them has sent."""
        digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else hash_file(data)
        total = len(data) if isinstance(data, bytes) else data.stat().st_size
        stands, piece, span = -1, b"", f"bytes */{total}"
        waits, deadline = 0, time.monotonic() + PATIENCE
        while True:
            answer = self._request("PUT", digest, content=piece, headers={"Content-Range": span})
            if answer.status_code == 201:
                return digest
            if answer.status_code not in (202, 409):
                raise self._error(answer)
            offset = int(answer.headers.get("Upload-Offset", stands))
            if offset != stands:
                stands, waits, deadline = offset, 0, time.monotonic() + PATIENCE
            else:  # others upload the same blob, and one of them holds it
                if time.monotonic() > deadline:
                    raise self._error(answer)
                time.sleep(min(0.05 * 2**waits, 1.0))
                waits += 1
            piece = _slice(data, offset, self._piece) if offset >= 0 else b""
            span = f"bytes {offset}-{offset + len(piece) - 1}/{total}" if piece else f"bytes */{total}"

    def get(self, digest: str, *, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        whole = start == 0 and end is None
        headers = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        answer = self._request("GET", digest, headers=headers)
        if answer.status_code == 416:
            return b""
        if answer.status_code not in (200, 206):
            raise self._error(answer)
        data = bytes(answer.content)
        if answer.status_code == 200 and not whole:
            data = data[start:end]
        if whole and hashlib.sha256(data).hexdigest() != digest:
            raise Unavailable(f"The blob {digest} came damaged.", hint="Try again.")
        return data

    def fetch(self, digest: str, target: Path) -> None:
        size = self.size(digest)
        if size is None:
            raise NotFound(f"There is no blob {digest}.")
        verified_fetch(digest, size, target, lambda at: self._read(digest, at))

    def size(self, digest: str) -> int | None:
        answer = self._request("HEAD", digest)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._error(answer)
        return int(answer.headers["Content-Length"])

    def list(self) -> Iterator[tuple[str, float, int]]:
        raise Forbidden("Blobs of a platform are listed by the platform only.")

    def delete(self, digest: str, *, older_than: float) -> bool:
        raise Forbidden("Blobs of a platform are removed by the platform only.")

    def _read(self, digest: str, at: int) -> Iterator[bytes]:
        headers = self._headers() | ({"Range": f"bytes={at}-"} if at else {})
        with self._explained(), self._client.stream("GET", self._url(digest), headers=headers) as answer:
            if answer.status_code != (206 if at else 200):
                answer.read()
                raise self._error(answer)
            try:
                yield from answer.iter_bytes(1 << 20)
            except (httpx2.RemoteProtocolError, httpx2.ReadError):
                return  # what has come is kept, and the fetch goes on from there

    def _request(
        self, method: str, digest: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        for wait in (0.2, 1.0, None):
            try:
                with self._explained():
                    return self._client.request(
                        method, self._url(digest), content=content, headers=self._headers() | (headers or {})
                    )
            except Unavailable:
                if wait is None:
                    raise
                time.sleep(wait)
        raise AssertionError("the last round returns or raises")

    def _url(self, digest: str) -> str:
        return f"{self._uri}/{check_digest(digest)}"

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise Unavailable(f"The platform does not answer at {self._uri}: {error}") from None

    def _error(self, answer: httpx2.Response) -> Error:
        try:
            document = answer.json()
            message, hint = document.get("detail"), document.get("hint")
        except ValueError:
            message, hint = None, None
        kind = _ERRORS.get(answer.status_code, Unavailable)
        return kind(message or f"The platform answers {answer.status_code} for a blob.", hint=hint)


def _slice(data: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(data, bytes):
        return data[start : start + length]
    with data.open("rb") as file:
        file.seek(start)
        return file.read(length)
