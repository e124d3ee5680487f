"""Blobs as objects `<first two digits>/<hash>`, through obstore: in a folder of this machine, or below a prefix in S3."""

import fcntl
import hashlib
import os
import posixpath
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from obstore.store import LocalStore, S3Store

from mlaas.kernel.blobs import s3
from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.tree import CanLink, hash_file
from mlaas.kernel.blobs.uri import HASH, split_s3
from mlaas.kernel.errors import Full, Invalid, NotFound, Unavailable

_CHUNK = 4 << 20


def check_digest(digest: str) -> str:
    """Raises Invalid for what is no SHA-256 in lower-case hexadecimal (and so could be a path)."""
    if not HASH.fullmatch(digest):
        raise Invalid(f"'{digest[:80]}' is no SHA-256 in hexadecimal.")
    return digest


def verified_fetch(digest: str, size: int, target: Path, read: Callable[[int], Iterator[bytes]]) -> None:
    """Bring a blob of `size` bytes into a file: `read(offset)` yields its bytes from there. An interrupted one goes on from
    `.<name>.<hash>.part` beside the target. Raises Unavailable when the bytes are not those of the hash."""
    part = target.with_name(f".{target.name[:100]}.{digest[:16]}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _room(target):
        for _ in range(5):
            at = part.stat().st_size if part.exists() else 0
            if at >= size:
                break
            with part.open("ab") as file:
                for chunk in read(at):
                    file.write(chunk)
        part.touch()
    if part.stat().st_size != size or hash_file(part) != digest:
        part.unlink()
        raise Unavailable(f"The blob {digest} came damaged.", hint="Try again; if it stays so, the store is damaged.")
    part.replace(target)


@contextmanager
def _room(what: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise Full(f"The disk is full: {what} could not be written.") from None
        raise


class ObjectBlobs(Blobs):
    """What folder and S3 have in common."""

    def __init__(self, store: LocalStore | S3Store, prefix: str = "") -> None:
        self._store: Any = store
        self._prefix = prefix

    def put(self, data: bytes | Path) -> str:
        digest = hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else hash_file(data)
        with self._explained(digest):
            if not self.renew(digest):
                self._write(digest, data)
        return digest

    def get(self, digest: str, *, start: int = 0, end: int | None = None) -> bytes:
        size = self.size(digest)
        if size is None:
            raise NotFound(f"There is no blob {digest}.")
        stop = size if end is None else min(end, size)
        if start >= stop:
            return b""
        with self._explained(digest):
            data = bytes(self._store.get_range(self._key(digest), start=start, end=stop))
        if (start, stop) == (0, size) and hashlib.sha256(data).hexdigest() != digest:
            raise Unavailable(f"The blob {digest} is damaged in its store.")
        return data

    def fetch(self, digest: str, target: Path) -> None:
        size = self.size(digest)
        if size is None:
            raise NotFound(f"There is no blob {digest}.")
        with self._explained(digest):
            verified_fetch(digest, size, target, lambda at: self._read(digest, at))

    def size(self, digest: str) -> int | None:
        try:
            with self._explained(digest):
                return int(self._store.head(self._key(digest))["size"])
        except NotFound:
            return None

    def list(self) -> Iterator[tuple[str, float, int]]:
        with self._explained("list"):
            for batch in self._store.list(self._prefix or None):
                for item in batch:
                    name = posixpath.basename(item["path"])
                    if HASH.fullmatch(name) and item["path"] == self._key(name):
                        yield name, self._renewed(name, item["last_modified"].timestamp()), item["size"]

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{check_digest(digest)[:2]}/{digest}"

    def _read(self, digest: str, at: int) -> Iterator[bytes]:
        options = {"range": {"offset": at}} if at else {}
        for chunk in self._store.get(self._key(digest), options=options).stream(min_chunk_size=_CHUNK):
            yield bytes(chunk)

    @abstractmethod
    def _explained(self, what: str) -> AbstractContextManager[None]:
        """Errors of the back end in our words."""

    @abstractmethod
    def renew(self, digest: str) -> bool:
        """If the blob is there, make its time now, in a way that no delete can overtake; whether it is."""

    @abstractmethod
    def _renewed(self, digest: str, modified: float) -> float:
        """When the blob was last put."""

    @abstractmethod
    def _write(self, digest: str, data: bytes | Path) -> None:
        """Store, atomically, what is not there yet."""


class FolderBlobs(ObjectBlobs, CanLink):
    """Blobs in a folder; several processes may use it at once. A file is synced before it gets its name. Renewal and removal
    exclude each other by a lock of the folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        super().__init__(LocalStore(str(self._folder)))

    def path(self, digest: str) -> Path | None:
        path = self._folder / self._key(digest)
        return path if path.exists() else None

    def delete(self, digest: str, *, older_than: float) -> bool:
        path = self._folder / self._key(digest)
        with self._locked(fcntl.LOCK_EX):
            try:
                if path.stat().st_mtime > older_than:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def expire(self, older_than: float) -> None:
        """Remove what writers that died have left."""
        for left in self._folder.glob(".tmp-*"):
            try:
                if left.stat().st_mtime < older_than:
                    left.unlink()
            except FileNotFoundError:
                continue

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        lock = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            with _room(self._folder):
                yield
        except FileNotFoundError:
            raise NotFound(f"There is no blob {what}.") from None
        except PermissionError:
            raise Unavailable(f"The blob store {self._folder} denies access to this process.") from None

    def renew(self, digest: str) -> bool:
        with self._locked(fcntl.LOCK_SH):
            try:
                os.utime(self._folder / self._key(digest))
            except FileNotFoundError:
                return False
        return True

    def _renewed(self, digest: str, modified: float) -> float:
        return modified

    def _write(self, digest: str, data: bytes | Path) -> None:
        place = self._folder / self._key(digest)
        place.parent.mkdir(exist_ok=True)
        partial = self._folder / f".tmp-{uuid.uuid4().hex}"
        seen = hashlib.sha256()
        try:
            with partial.open("xb") as file:
                for chunk in _chunks(data):
                    seen.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if seen.hexdigest() != digest:
                raise Invalid(f"{data!s} changed while it was stored.", hint="Try again when nothing writes to it.")
            partial.chmod(0o444)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


class S3Blobs(ObjectBlobs):
    """Blobs below `s3://bucket/prefix`.

    S3 cannot touch an object, so a put of what is there writes an empty object `renewed/<hash>`. A delete announces itself by
    `removing/<hash>` before it looks at the times; a put looks for that after it has renewed. So at least one of the two sees
    the other: the delete gives up, or the put waits for its end and uploads again. An announcement older than five minutes is
    that of a dead sweeper; a live one gives up after one.
    """

    _ANNOUNCED = 300.0
    _GIVE_UP = 60.0

    def __init__(self, uri: str, store: S3Store | None = None) -> None:
        bucket, prefix = split_s3(uri)
        self.uri = uri
        self._times: dict[str, float] | None = None
        super().__init__(store or s3.store_of(bucket), prefix + "/")

    def list(self) -> Iterator[tuple[str, float, int]]:
        with self._explained("list"):
            self._times = {
                posixpath.basename(item["path"]): item["last_modified"].timestamp()
                for batch in self._store.list(f"{self._prefix}renewed/")
                for item in batch
            }
        yield from super().list()

    def delete(self, digest: str, *, older_than: float) -> bool:
        key, announcement = self._key(digest), f"{self._prefix}removing/{digest}"
        started = time.monotonic()
        with self._explained(digest):
            modified = self._time(key)
            if modified is None or modified > older_than:
                return False
            self._store.put(announcement, b"", use_multipart=False)
            try:
                times = (self._time(key), self._time(f"{self._prefix}renewed/{digest}"))
                if (
                    any(at is not None and at > older_than for at in times)
                    or time.monotonic() - started > self._GIVE_UP
                ):
                    return False
                self._store.delete(key)
                self._store.delete(f"{self._prefix}renewed/{digest}")
            finally:
                self._store.delete(announcement)
        return True

    def _explained(self, what: str) -> AbstractContextManager[None]:
        return s3.explained(f"{self.uri}/{what}")

    def _time(self, key: str) -> float | None:
        try:
            return float(self._store.head(key)["last_modified"].timestamp())
        except FileNotFoundError:
            return None

    def renew(self, digest: str) -> bool:
        key, announcement = self._key(digest), f"{self._prefix}removing/{digest}"
        if self._time(key) is None:
            return False
        self._store.put(f"{self._prefix}renewed/{digest}", b"", use_multipart=False)
        while (announced := self._time(announcement)) is not None and time.time() - announced < self._ANNOUNCED:
            time.sleep(0.2)
        return self._time(key) is not None

    def _renewed(self, digest: str, modified: float) -> float:
        return max(modified, (self._times or {}).get(digest, 0.0))

    def _write(self, digest: str, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            self._store.put(self._key(digest), data)
        else:
            s3.upload(self._store, data, self._key(digest))


def _chunks(data: bytes | Path) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
