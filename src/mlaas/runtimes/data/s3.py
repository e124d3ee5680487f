"""Inputs from S3: each object goes on where an interrupted download stopped, and is refused when it has changed meanwhile."""

import hashlib
import os
from pathlib import Path
from typing import Any, Protocol

from mlaas.kernel.blobs import s3
from mlaas.kernel.blobs.uri import split_s3
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.runtimes.data import cache
from mlaas.runtimes.taskfile import Input


class Progress(Protocol):
    """Is told how far a download is."""

    def begin(self, total: int) -> None:
        """So many bytes are about to come, or to be looked at where an interrupted download left them."""

    def add(self, count: int) -> None:
        """So many bytes more are here."""


def fetch_s3(folder: Path, field: str, source: Input, progress: Progress | None = None) -> Path:
    """The object as a file of the same name, or all objects below the prefix as a folder; from the cache `folder` when the
    content is there, and then `progress` is told nothing. Raises Invalid when the content is not that of `source.hash` any
    more."""
    found = s3.listing(source.uri, field)
    if source.hash and found.hash != source.hash:
        raise Invalid(
            f"{source.uri} has changed since the task was accepted.",
            field=field,
            hint="Submit the task again to use what is there now.",
        )
    store = s3.store_of(split_s3(source.uri)[0])

    def take(partial: Path) -> None:
        if progress is not None:
            progress.begin(found.size)
        for item in found.objects:
            with s3.explained(f"s3://{split_s3(source.uri)[0]}/{item.key}", field):
                _download(store, item, partial / "content" / item.name, progress)

    content = cache.entry(folder, f"{source.uri}\0{found.hash}", found.size, take)
    return content / found.objects[0].name if found.single else content


def _download(store: Any, item: s3.Object, target: Path, progress: Progress | None = None) -> None:
    told = progress.add if progress is not None else _nobody
    if target.exists():
        told(item.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    tag = hashlib.sha256(item.etag.encode()).hexdigest()[:16]
    part = target.with_name(f".{tag}.part")
    told(part.stat().st_size if part.exists() else 0)
    for _ in range(5):
        at = part.stat().st_size if part.exists() else 0
        if at >= item.size:
            break
        options = {"if_match": item.etag} | ({"range": {"offset": at}} if at else {})
        with part.open("ab") as file:
            for chunk in store.get(item.key, options=options).stream(min_chunk_size=4 << 20):
                file.write(chunk)
                told(len(chunk))
    else:
        raise Unavailable(f"{item.key} ended early: {at} of {item.size} bytes came.")
    part.touch()
    if part.stat().st_size != item.size:
        part.unlink()
        raise Unavailable(f"{item.key} does not have the {item.size} bytes that S3 says it has.")
    os.replace(part, target)


def _nobody(_count: int) -> None: ...
