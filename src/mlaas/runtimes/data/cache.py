"""The folder of fetched inputs that tasks share: bounded, safe for concurrent fetchers, resumable.

`CACHE/inputs/<key>/content` is an input, complete; `<key>.partial/` one that is being fetched or was interrupted; `<key>.lock`
is held (flock) exclusively by who fetches, shared by who uses it, until the process ends. Whoever fetches something new first
removes what was not used for longest, until the rest and the newcomer fit; never what is in use.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from mlaas.kernel.blobs.tree import remove
from mlaas.kernel.errors import Invalid

DEFAULT_BYTES = 50 * 10**9
_held: dict[str, int] = {}


def entry(cache: Path, identity: str, size: int, fetch: Callable[[Path], None]) -> Path:
    """The content of `identity`, at a path that stays until this process ends. `fetch(partial)` fills a folder `partial`
    with `content` (a file or a folder) unless it is there; `size` in bytes is what that is about to take."""
    folder = cache / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    key = key_of(identity)
    place = folder / key
    lock = os.open(folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if place.exists():
                break
            _let_go(key)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if place.exists():
                continue
            make_room(folder, size, keep=key)
            partial = folder / f"{key}.partial"
            partial.mkdir(exist_ok=True)
            fetch(partial)
            partial.rename(place)
    except BaseException:
        os.close(lock)
        raise
    _let_go(key)
    _held[key] = lock
    os.utime(place)
    return place / "content"


def key_of(identity: str) -> str:
    """The name of an entry's folder."""
    return hashlib.sha256(identity.encode()).hexdigest()


def kept(cache: Path, key: str) -> Path | None:
    """The content of an entry by its key, as `entry` gives it; None where it is not there (any more)."""
    place = cache / "inputs" / key
    if not place.exists():
        return None
    lock = os.open(place.with_name(f"{key}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not place.exists():  # it was removed just now
        os.close(lock)
        return None
    _let_go(key)
    _held[key] = lock
    os.utime(place)
    return place / "content"


def _let_go(key: str) -> None:
    """Give up this process's own share of an entry: a new descriptor's lock would wait for it for ever (flock(2))."""
    previous = _held.pop(key, None)
    if previous is not None:
        os.close(previous)


def make_room(folder: Path, size: int, keep: str = "") -> None:
    """Remove least recently used entries until `size` more bytes fit into the limit, or all that is left is in use."""
    limit = limit_bytes()
    found = []
    for place in folder.iterdir():
        key = place.name.removesuffix(".partial")
        if place.is_dir() and key != keep:
            found.append((place.stat().st_mtime, size_of(place), place, key))
    total = sum(taken for _, taken, _, _ in found)
    for _, taken, place, key in sorted(found):
        if total + size <= limit:
            return
        lock = os.open(folder / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(place)
            total -= taken
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def limit_bytes() -> int:
    """`MLAAS_CACHE_BYTES`, 50 GB unless said. Raises Invalid for what is no number."""
    text = os.environ.get("MLAAS_CACHE_BYTES") or str(DEFAULT_BYTES)
    try:
        return int(float(text))
    except ValueError:
        raise Invalid(f"MLAAS_CACHE_BYTES is '{text}', which is no number.", field="MLAAS_CACHE_BYTES") from None


def size_of(place: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for here, _folders, names in os.walk(place):
        for name in names:
            total += os.lstat(os.path.join(here, name)).st_size
    return total
