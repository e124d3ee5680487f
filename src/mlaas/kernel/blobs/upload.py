"""The server half of the platform's blobs: uploads that come in pieces and go on where they stopped. Knows no web framework.

The protocol, on `/api/v1/projects/{project}/blobs/{hash}`:

    HEAD                      200 with Content-Length: the blob is there; 404 with `Upload-Offset: n`: n bytes of it have come
    GET                       200, or 206 for `Range: bytes=a-b`
    PUT                       body: bytes a to b (inclusive) of n, as `Content-Range: bytes a-b/n` says; without it: all;
                              `Content-Range: bytes */n` and no body: how far is it? (also how the empty blob is put)
        201                   complete, its hash verified, kept
        202, Upload-Offset    taken; more is needed
        409, Upload-Offset    the piece does not begin where the upload stands: go on from there; when that is n, ask how far
                              it is, which also completes what a broken connection left whole
        409                   another request writes to this upload at this moment: try again
        422                   the bytes are not those of the hash; the upload begins anew
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlaas.kernel.blobs.objects import ObjectBlobs, check_digest
from mlaas.kernel.blobs.tree import hash_file
from mlaas.kernel.errors import Conflict, Full, Invalid, Malformed, TooLarge

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class WrongOffset(Conflict):
    """The piece does not begin where the upload stands. `offset` is where that is."""

    code = "wrong-offset"

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes of this blob are here.", hint="Send the piece that begins there.")
        self.offset = offset


def parse_range(header: str | None, length: int | None) -> tuple[int, int, int]:
    """(start, end exclusive, total) of a PUT by its Content-Range; without one, the body of `length` bytes is all; (0, 0, n) for
    the question how far it is. Raises Malformed."""
    if not header:
        if length is None:
            raise Malformed("A blob needs Content-Range or Content-Length.")
        return 0, length, length
    if asked := re.fullmatch(r"bytes \*/(\d{1,18})", header.strip()):
        return 0, 0, int(asked[1])
    match = _RANGE.fullmatch(header.strip())
    if not match:
        raise Malformed(f"Content-Range is '{header[:100]}'.", hint="Write: bytes FIRST-LAST/TOTAL")
    start, last, total = (int(part) for part in match.groups())
    if not start <= last < total:
        raise Malformed(f"Content-Range is '{header[:100]}', which is no range.", hint="Write: bytes FIRST-LAST/TOTAL")
    return start, last + 1, total


class Uploads:
    """Pieces on their way into `blobs`, one file a hash in `folder`. One folder per project: nobody spoils the upload of others.

    A PUT is: `parse_range`; `complete` (then 201 at once, whatever the body); `append` for the bytes as they arrive; `finish`
    (201 or 202 with `offset`).
    """

    def __init__(self, folder: Path, blobs: ObjectBlobs, largest: int = 1 << 40) -> None:
        self._folder = folder
        self._blobs = blobs
        self._largest = largest

    def complete(self, digest: str) -> bool:
        """Whether the blob is kept already; if so, its time is now."""
        return self._blobs.renew(check_digest(digest))

    def offset(self, digest: str) -> int:
        """How many bytes of the blob have come; 0 for an upload that has not begun."""
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, digest: str, data: bytes, start: int, total: int) -> int:
        """Add bytes at `start`; the new offset. A piece may be given in several calls, as its bytes arrive.

        Raises WrongOffset, TooLarge (above the limit, or past `total`), Full.
        """
        if total > self._largest or start + len(data) > total:
            raise TooLarge(f"The blob is larger than the {min(total, self._largest)} bytes that it may have.")
        with self._open(digest) as file:
            at = os.lseek(file, 0, os.SEEK_END)
            if at != start:
                raise WrongOffset(at)
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(file, view) :]
            except OSError as error:
                os.ftruncate(file, at)
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise Full("The platform's disk is full.") from None
                raise
        return start + len(data)

    def finish(self, digest: str, total: int) -> bool:
        """Keep the blob if all its bytes have come; whether they have. Raises Invalid (and forgets the upload) when they are not
        those of the hash."""
        place = self._place(digest)
        with self._open(digest) as file:
            at = os.lseek(file, 0, os.SEEK_END)
            if at < total:
                if not self._blobs.renew(digest):
                    return False
                place.unlink()  # another upload of the same blob has ended meanwhile
                return True
            found = hash_file(place)
            if at == total and found == digest:
                self._blobs.put(place)
            place.unlink()
        if found != digest or at != total:
            raise Invalid(
                f"The bytes that came have the hash {found}, not {digest}.", hint="Upload it again from the start."
            )
        return True

    def expire(self, older_than: float) -> None:
        """Forget uploads that have not moved since `older_than` (seconds since the epoch)."""
        for place in self._folder.glob("*") if self._folder.is_dir() else ():
            try:
                with self._open(place.name) as file:
                    if os.fstat(file).st_mtime < older_than:
                        place.unlink()
            except Conflict:
                continue  # it moves just now

    def _place(self, digest: str) -> Path:
        return self._folder / check_digest(digest)

    @contextmanager
    def _open(self, digest: str) -> Iterator[int]:
        """The upload's file, locked. Raises Conflict while another request holds it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._place(digest)
        while True:
            file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Conflict("Another upload of this blob is under way.", hint="Try again in a moment.") from None
                if not _is_at(file, place):
                    continue  # it was finished and removed between opening and locking
                yield file
                return
            finally:
                os.close(file)


def _is_at(file: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), place.stat())
    except FileNotFoundError:
        return False
