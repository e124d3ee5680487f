"""Models in one file: `.zip`, `.tar`, `.tar.gz` and the like, unpacked once into the cache.

    CACHE/unpacked/KEY/              what an archive held; its time stamp is that of its last use
    CACHE/unpacked/.unpacking-*/     being unpacked

Whoever made an archive may have meant harm: only plain files and folders inside the target are written, and no more than a model
may have.
"""

import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mlaas.kernel.errors import Invalid

SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
LARGEST = 64 << 30
"""Bytes that an archive may unpack to."""
RATIO = 200
"""How many times its own size an archive may unpack to, once that is more than `_SMALL`. Weights hardly compress at all."""
MEMBERS = 50_000
LIMIT = 32 << 30
"""Bytes of unpacked archives that are kept; the least recently used go first."""
_SMALL = 64 << 20
_KEEP_SECONDS = 24 * 3600.0
_CHUNK = 1 << 20
_FIELD = "source"
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether a path is called as an archive is. Files of frameworks that are ZIP archives inside are none."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def name_of(path: Path) -> str:
    """The name of a model file without its suffix, which may have two parts."""
    suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), path.suffix)
    return path.name[: len(path.name) - len(suffix)] or path.name


def unpacked(archive: Path, key: str, cache: Path) -> Path:
    """The folder that an archive holds: its only folder, where it has nothing else. `key` names its content.

    Raises Invalid for an archive that is broken, encrypted, too large, or that holds links, devices or paths that lead out of it.
    """
    folder = cache / "unpacked"
    target = folder / key
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
        try:
            _unpack(archive, made)
            try:
                made.rename(target)
            except OSError:
                if not target.is_dir():  # else somebody was quicker
                    raise
            _prune(folder, keep=target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    os.utime(target)
    inside = [entry for entry in target.iterdir() if entry.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].name.isdecimal() else target


def _unpack(archive: Path, target: Path) -> None:
    size = archive.stat().st_size
    allowed = min(LARGEST, max(_SMALL, RATIO * size), shutil.disk_usage(target).free)
    total = count = 0
    try:
        for name, stream in _members(archive):
            count += 1
            if count > MEMBERS:
                raise Invalid(f"{archive.name} holds more than {MEMBERS} files.", field=_FIELD)
            path = target / _inside(name, archive)
            if stream is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while chunk := stream.read(_CHUNK):
                    total += len(chunk)
                    if total > allowed:
                        raise Invalid(
                            f"{archive.name} ({size} bytes) unpacks to more than {allowed} bytes, which no model does.",
                            field=_FIELD,
                            hint="Unpack it yourself and serve the folder, where it is right.",
                        )
                    file.write(chunk)
    except _BROKEN as error:
        raise Invalid(f"{archive.name} is damaged: {' '.join(str(error).split())[:200]}.", field=_FIELD) from None
    except RuntimeError as error:  # zipfile's word for a password
        raise Invalid(f"{archive.name} cannot be read: {str(error)[:200]}.", field=_FIELD) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise Invalid(f"{archive.name} holds two files of one name.", field=_FIELD) from None
    except OSError as error:
        raise Invalid(f"{archive.name} cannot be unpacked: {error.strerror or error}.", field=_FIELD) from None
    if not count:
        raise Invalid(f"{archive.name} is empty.", field=_FIELD)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Names and contents of what is in it; None for a folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for item in packed.infolist():
                mode = item.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _special(archive, item.filename)
                if item.is_dir():
                    yield item.filename, None
                    continue
                with packed.open(item) as stream:
                    yield item.filename, stream
        return
    with tarfile.open(archive, "r:*") as bundle:
        for member in bundle:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise _special(archive, member.name)
            content: Any = bundle.extractfile(member) if member.isreg() else None
            yield member.name, content


def _special(archive: Path, name: str) -> Invalid:
    return Invalid(
        f"{archive.name} holds '{name[:200]}', which is a link or a device.",
        field=_FIELD,
        hint="Pack files and folders only (`tar --dereference`).",
    )


def _inside(name: str, archive: Path) -> Path:
    """The place of a member in the target. Raises Invalid for a path that leads out of it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    out = name.startswith("/") or ".." in parts or "\\" in name or re.match(r"[A-Za-z]:", name)
    if out or any(unicodedata.category(letter) == "Cc" for letter in name):
        raise Invalid(
            f"{archive.name} holds {name[:200]!r}, which leads out of it.",
            field=_FIELD,
            hint="Pack the folder with relative paths: `zip -r model.zip .` in it.",
        )
    return Path(*parts)


def _prune(folder: Path, keep: Path) -> None:
    """Remove what was used least recently until the rest fits, and what an interruption left."""
    now, total, entries = time.time(), 0, []
    for entry in folder.iterdir():
        try:
            size = sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
            entries.append((entry.stat().st_mtime, size, entry))
            total += size
        except OSError:
            continue
    for used, size, entry in sorted(entries, key=lambda each: each[0]):
        old = now - used > _KEEP_SECONDS and entry != keep
        if old and (total > LIMIT or entry.name.startswith(".")):
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
