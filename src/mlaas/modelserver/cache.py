"""Compiled models on disk, by what they were compiled from and with.

    CACHE/compiled/KEY/compiled.json ...     a compiled model; its time stamp is that of its last use
    CACHE/compiled/.making-*/                being written
    CACHE/hashes.db                          content hashes of files, by path, size and time

CACHE is `MLAAS_CACHE`, else `$XDG_CACHE_HOME/mlaas`, else `~/.cache/mlaas`. Several servers may share it: a folder appears
complete, by rename, and whoever comes second with the same key throws its own away.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mlaas.kernel.blobs.hashes import Hashes
from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import read

LIMIT = 8 << 30
"""Bytes that compiled models may take; the least recently used go first."""
_KEEP_SECONDS = 3600.0  # what was used so recently stays, whatever the limit says: somebody may be reading it


def cache_folder() -> Path:
    """Where caches of this user lie."""
    given = os.environ.get("MLAAS_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlaas"


class Cache:
    """Blocking: call it in a thread."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self.root = folder or cache_folder()
        self._compiled = self.root / "compiled"
        self._limit = limit
        self._hashes: Hashes | None = None

    def content_hash(self, source: Path) -> str:
        """Of a model's folder or file; quick for what has not changed since it was asked last."""
        if self._hashes is None:
            self._hashes = Hashes(self.root / "hashes.db")
        return self._hashes.of(source, lambda path: True)

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The compiled folder of a key with its document, marked as used; None when it is not there or cannot be read."""
        folder = self._compiled / key
        try:
            document = read.document_of(folder)
            os.utime(folder / read.DOCUMENT)
        except (OSError, Invalid):
            return None
        return folder, document

    @contextmanager
    def making(self) -> Iterator[Path]:
        """An empty folder to compile into; what is left of it afterwards is removed."""
        self._compiled.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=self._compiled))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, made: Path, key: str) -> tuple[Path, dict[str, Any]]:
        """Give a folder of `making` its name; the one that is there already stays."""
        try:
            os.rename(made, self._compiled / key)
        except OSError:
            if self.find(key) is None:  # a broken one: replaced
                shutil.rmtree(self._compiled / key, ignore_errors=True)
                os.rename(made, self._compiled / key)
        self._prune()
        found = self.find(key)
        if found is None:
            raise Invalid("The compiled model cannot be read back.", field="source")
        return found

    def _prune(self) -> None:
        """Remove what was used least recently until the rest fits, and what an interrupted compilation left."""
        entries, total = [], 0
        for folder in self._compiled.iterdir():
            try:
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                mark = folder if folder.name.startswith(".") else folder / read.DOCUMENT
                entries.append((mark.stat().st_mtime, size, folder))
                total += size
            except OSError:
                continue
        now = time.time()
        for used, size, folder in sorted(entries, key=lambda entry: entry[0]):
            stale = folder.name.startswith(".") and now - used > 24 * 3600
            if stale or (total > self._limit and now - used > _KEEP_SECONDS and not folder.name.startswith(".")):
                shutil.rmtree(folder, ignore_errors=True)
                total -= size


def key_of(*parts: Any) -> str:
    """A key of everything that a compiled form depends on."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:40]
