"""Small files as the truth between shim and engine: written whole or not at all. Standard library only (the shim uses it)."""

import json
import os
import stat
import time
from typing import Any

ORDER = "start.json"  # what the shim is to start; written by the engine
SHIM = "shim.json"  # the claim: identity of the one shim of this attempt
CHILD = "child.json"  # the child runs: pid, start, how it was started
STOP = "stop.json"  # somebody asked for the end
REPORT = "report.json"  # the latest progress report
POINTS = "points.jsonl"  # all reported metrics
EXIT = "exit.json"  # how it ended
TOKEN = "token"  # noqa: S105  the file of the report endpoint's bearer token
CREDENTIALS = "credentials.json"

LIMIT = 64 << 20
"""No record is larger (a body of 8 MiB grows when its characters are escaped); what is, was not written by us."""


def now() -> str:
    """This moment in UTC, ISO 8601 with milliseconds."""
    moment = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(moment))}.{int(moment * 1000) % 1000:03d}Z"


def read(path: str) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none. Never follows a symbolic link, never reads a device or a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LIMIT:
            return None
        with open(handle, "rb", closefd=False) as file:
            document = json.loads(file.read())
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)
    return document if isinstance(document, dict) else None


def write(path: str, document: Any, *, sync: bool = False) -> None:
    """Replace `path` atomically (mode 0600); with `sync` it is on the disk before this returns."""
    aside = _aside(path, json.dumps(document).encode(), sync)
    os.rename(aside, path)
    if sync:
        _sync_folder(path)


def claim(path: str, document: Any, *, sync: bool = False) -> bool:
    """Create `path` with all its content; False when it is there already. Of any number of callers exactly one wins."""
    aside = _aside(path, json.dumps(document).encode(), sync)
    try:
        os.link(aside, path)  # link(2) fails when the name exists, in one step
    except FileExistsError:
        return False
    finally:
        os.unlink(aside)
    if sync:
        _sync_folder(path)
    return True


def _aside(path: str, content: bytes, sync: bool) -> str:
    aside = f"{path}.{os.getpid()}-{time.monotonic_ns()}"
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        if sync:
            os.fsync(handle)
    finally:
        os.close(handle)
    return aside


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
