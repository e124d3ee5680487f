"""What an ended attempt left, and what is kept of it. Blocking: the engine calls it in a thread."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from mlaas.engines.local import record
from mlaas.engines.local.layout import Place, empty
from mlaas.kernel.workload import Collected

_NUMBERED = re.compile(r"(\d{1,15})(\.[A-Za-z]\w*)?")
_MOST_FILES = 10_000
"""Of a checkpoint folder are looked at: a foreign program may leave any number."""


def collect(place: Place, attempt: int) -> Collected:
    """What the first replica left."""
    gang = place.gang(attempt)
    if not gang["replicas"]:
        return Collected(None, None)
    role, index = gang["replicas"][0]
    order = record.read(f"{place.attempt(role, index, attempt)}/{record.ORDER}") or {}
    cwd = place.replica(role, index) / "cwd"
    output = cwd / "output"
    there = output.is_dir() and not output.is_symlink() and any(output.iterdir())
    result = _result(cwd / "result.json") if order.get("recipe") else None
    return Collected(result, str(output) if there else None, reached(cwd / "checkpoints"))


def _result(path: Path) -> dict[str, Any] | None:
    """What a recipe answered, which may be many vectors; None when there is none. Recipes are trusted, scripts have none."""
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def reached(checkpoints: Path) -> float:
    """How far checkpoints go: the highest number at the end of a name in the folder (`step-000000120`, `checkpoint-500`,
    `epoch_3.pt`); where no name has one, the bytes that they take. Hidden names are not whole yet. 0 without any."""
    if checkpoints.is_symlink():
        return 0.0
    names = [entry.name for entry in _entries(str(checkpoints)) if not entry.name.startswith(".")]
    numbers = [int(found[1]) for name in names if (found := _ending(name))]
    if numbers:
        return float(max(numbers))
    return float(sum(_sizes(str(checkpoints))))


def tidy(place: Place, keep_checkpoints: bool) -> None:
    """Keep only logs and exit records, the result, and the checkpoints where that is wanted."""
    keep = frozenset({"result.json", "checkpoints"} if keep_checkpoints else {"result.json"})
    for attempt in place.attempts():
        for role, index in place.gang(attempt)["replicas"]:
            replica = place.replica(role, index)
            empty(replica / "cwd", keep)
            empty(replica / "tmp", frozenset())


def _ending(name: str) -> re.Match[str] | None:
    digits = re.search(r"\d[\d.A-Za-z_]*$", name)
    return _NUMBERED.fullmatch(digits[0]) if digits else None


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(_MOST_FILES), entries, strict=False):
                yield entry
    except OSError:
        return


def _sizes(folder: str) -> Iterator[int]:
    """Bytes on the disk of every file: one that is mapped into memory has its whole length from the start."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(entry.path)
        elif not entry.name.startswith("."):
            yield entry.stat(follow_symlinks=False).st_blocks * 512
