"""Content-addressed blobs. `contract.py` beside this file is the suite that each implementation subclasses.

A *blob* is bytes under their SHA-256 in hexadecimal. A *tree* is a folder: a blob that holds the canonical JSON manifest
`{"version": 1, "files": [{"path", "hash", "size", "mode"}]}` sorted by path; its hash is the hash of the folder's content.
Synchronous on purpose: runtimes use them in their own process; the platform calls them in threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path


class Blobs(ABC):
    """Raises NotFound for a missing hash, Full when there is no room, Unavailable when the back end does not answer."""

    @abstractmethod
    def put(self, data: bytes | Path) -> str:
        """Store, atomically; the hash. Storing what is there already costs a look-up."""

    @abstractmethod
    def get(self, digest: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes, or those of the half-open range. Whole blobs are verified against their hash."""

    @abstractmethod
    def fetch(self, digest: str, target: Path) -> None:
        """The whole blob into a file, verified, by rename; an interrupted fetch goes on where it stopped."""

    @abstractmethod
    def size(self, digest: str) -> int | None:
        """Bytes, or None when it is not there."""

    @abstractmethod
    def list(self) -> Iterator[tuple[str, float, int]]:
        """(hash, last put in seconds since the epoch, size) of all blobs."""

    @abstractmethod
    def delete(self, digest: str, *, older_than: float) -> bool:
        """Remove, unless it was put after `older_than` (seconds since the epoch); a put renews that time."""
