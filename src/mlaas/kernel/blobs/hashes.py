"""Content hashes of local files and folders, remembered by path, size, modification time and inode."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlaas.kernel.blobs.tree import hash_file, tree_hash

_RACY = 2.0  # seconds: a file changed so recently may change again within the same time stamp


class Hashes:
    """A cache in an SQLite file (in memory without one); safe for threads. Losing the file costs time only."""

    def __init__(self, file: Path | None = None, limit: int = 200_000) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = _open(file)
        except sqlite3.DatabaseError:
            if file is None:
                raise
            file.unlink(missing_ok=True)
            self._database = _open(file)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def of_file(self, path: Path) -> str:
        """SHA-256 of the file's content."""
        name = os.fsencode(os.path.realpath(path)).hex()
        status = path.stat()
        key = (status.st_size, status.st_mtime_ns, status.st_ino)
        with self._lock:
            row = self._database.execute(
                "SELECT size, mtime, inode, hash FROM hashes WHERE path = ?", (name,)
            ).fetchone()
        if row is not None and row[:3] == key:
            return str(row[3])
        digest = hash_file(path)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns, after.st_ino) == key and time.time() - status.st_mtime > _RACY:
            self._remember(name, key, digest)
        return digest

    def of(self, path: Path, allow: Callable[[Path], bool] | None = None) -> str:
        """Of a file, or of a folder as a tree (`mlaas.kernel.blobs.tree`); symbolic links in it only where `allow` admits."""
        return tree_hash(path, self.of_file, allow) if path.is_dir() else self.of_file(path)

    def _remember(self, name: str, key: tuple[int, int, int], digest: str) -> None:
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?, ?)", (name, *key, digest, time.time())
            )
            (count,) = self._database.execute("SELECT max(rowid) FROM hashes").fetchone()
            if count is not None and count % 1000 == 0:
                self._database.execute(
                    "DELETE FROM hashes WHERE path NOT IN (SELECT path FROM hashes ORDER BY used DESC LIMIT ?)",
                    (self._limit,),
                )


def _open(file: Path | None) -> sqlite3.Connection:
    database = sqlite3.connect(file or ":memory:", check_same_thread=False, isolation_level=None, timeout=10)
    database.execute("PRAGMA synchronous = OFF")
    database.execute(
        "CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, size INT, mtime INT, inode INT, hash TEXT, used REAL)"
    )
    return database
