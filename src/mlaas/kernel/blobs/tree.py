"""Folders as content: the canonical manifest, its hash, and the ways into and out of a blob store.

The manifest is JSON in UTF-8 without white space, keys sorted: `{"files":[{"hash","mode","path","size"}],"version":1}`, files
sorted by path (POSIX, relative), mode 420 (0644) or 493 (0755). Its SHA-256 is the hash of the folder. The mark of a commit
(`.mlaas.json` at the top) is no content: it names the hash. Empty folders are no content either.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.uri import HASH
from mlaas.kernel.errors import Invalid

MARK = ".mlaas.json"
CLAIM = ".mlaas-partial.json"
_CHUNK = 1 << 20


class CanLink(ABC):
    """Blobs that are files on this machine: a tree is materialised by hard links."""

    @abstractmethod
    def path(self, digest: str) -> Path | None:
        """The file that holds the blob, never to be written to; None when it is not there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree."""

    path: str
    hash: str
    size: int
    mode: int = 0o644


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path, allow: Callable[[Path], bool] | None = None) -> Iterator[tuple[str, Path]]:
    """(relative POSIX path, file) of all regular files, sorted; without the marks of a commit.

    A symbolic link is followed only when `allow` admits what it resolves to. Raises Invalid for other links, and for what is
    neither file nor folder.
    """
    found: list[tuple[str, Path]] = []
    pending = [(folder, "", frozenset({os.path.realpath(folder)}))]
    while pending:
        here, prefix, above = pending.pop()
        with os.scandir(here) as scan:
            items = list(scan)
        for item in items:
            path, name = Path(item.path), prefix + item.name
            if name in (MARK, CLAIM):
                continue
            if item.is_symlink():
                real = Path(os.path.realpath(path))
                if allow is None or not allow(real):
                    raise Invalid(
                        f"'{name}' in {folder} is a symbolic link that leads elsewhere.",
                        hint="Put the file itself there.",
                    )
            if item.is_dir():
                real_folder = os.path.realpath(path)
                if real_folder in above:
                    raise Invalid(f"'{name}' in {folder} is a symbolic link to a folder that contains it.")
                pending.append((path, name + "/", above | {real_folder}))
            elif item.is_file():
                found.append((name, path))
            else:
                raise Invalid(f"'{name}' in {folder} is neither a file nor a folder.")
    yield from sorted(found)


def entries_of(
    folder: Path, hash_of: Callable[[Path], str] = hash_file, allow: Callable[[Path], bool] | None = None
) -> list[Entry]:
    """The manifest's entries of a folder on disk."""
    entries = []
    for name, path in files_of(folder, allow):
        status = path.stat()
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        entries.append(Entry(name, hash_of(path), status.st_size, mode))
    return entries


def encode(entries: list[Entry]) -> bytes:
    """The canonical manifest. Raises Invalid for a file name that is not UTF-8."""
    files = [
        {"path": entry.path, "hash": entry.hash, "size": entry.size, "mode": entry.mode}
        for entry in sorted(entries, key=lambda entry: entry.path)
    ]
    try:
        return json.dumps(
            {"version": 1, "files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    except UnicodeEncodeError:
        raise Invalid("A file name in this folder is not UTF-8.", hint="Rename it.") from None


def tree_hash(
    folder: Path, hash_of: Callable[[Path], str] = hash_file, allow: Callable[[Path], bool] | None = None
) -> str:
    """The hash that the folder has, or would have, as a tree in a blob store."""
    return hashlib.sha256(encode(entries_of(folder, hash_of, allow))).hexdigest()


def decode(data: bytes) -> list[Entry]:
    """The entries of a manifest. Raises Invalid for what is no manifest or names a path outside its folder."""
    try:
        document = json.loads(data)
        if document["version"] != 1:
            raise Invalid(f"This tree's manifest has version {document['version']}; this program reads version 1.")
        entries = [Entry(file["path"], file["hash"], file["size"], file["mode"]) for file in document["files"]]
    except (ValueError, KeyError, TypeError):
        raise Invalid("This blob is no tree: it does not hold a manifest.") from None
    for entry in entries:
        parts = entry.path.split("/") if isinstance(entry.path, str) else [""]
        if any(part in ("", ".", "..") or "\0" in part for part in parts) or not HASH.fullmatch(str(entry.hash)):
            raise Invalid(f"This tree's manifest names the path {entry.path!r}, which cannot be in a folder.")
        if entry.mode not in (0o644, 0o755) or not isinstance(entry.size, int) or entry.size < 0:
            raise Invalid(f"This tree's manifest has a wrong mode or size for '{entry.path}'.")
    return entries


def put_tree(blobs: Blobs, folder: Path) -> str:
    """Keep a folder: its files first, the manifest last; the hash of the tree."""
    entries = []
    for name, path in files_of(folder):
        mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
        digest = blobs.put(path)
        entries.append(Entry(name, digest, blobs.size(digest) or 0, mode))
    return blobs.put(encode(entries))


def read_manifest(blobs: Blobs, digest: str) -> list[Entry]:
    """The entries of a tree in a store. Raises NotFound, and Invalid when the blob is no manifest."""
    return decode(blobs.get(digest))


def is_tree(blobs: Blobs, digest: str) -> bool:
    """Whether a blob is a manifest: told from its first bytes, so that a model's weights are not read for it."""
    head = b'{"files":['
    size = blobs.size(digest)
    return size is not None and size >= len(head) and blobs.get(digest, start=0, end=len(head)) == head


def materialise(blobs: Blobs, digest: str, target: Path) -> None:
    """A tree as a folder, a plain blob as a file, at `target`, which must not exist; by rename. Files are shared with the
    store where it is on this disk (hard links, read-only), so they must not be written to."""
    partial = target.with_name(f"{target.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        if is_tree(blobs, digest):
            partial.mkdir(parents=True)
            for entry in read_manifest(blobs, digest):
                place = partial / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                _take(blobs, entry.hash, place, entry.mode)
        else:
            partial.parent.mkdir(parents=True, exist_ok=True)
            _take(blobs, digest, partial, 0o644)
        partial.rename(target)
    except BaseException:
        remove(partial)
        raise


def _take(blobs: Blobs, digest: str, place: Path, mode: int) -> None:
    source = blobs.path(digest) if isinstance(blobs, CanLink) and mode == 0o644 else None
    if source is not None:
        try:
            os.link(source, place)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
        else:
            return
    blobs.fetch(digest, place)
    place.chmod(mode)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
