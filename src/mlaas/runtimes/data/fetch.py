"""Inputs of a task as paths on this machine."""

from collections.abc import Callable
from pathlib import Path

from mlaas.kernel.blobs.tree import materialise
from mlaas.kernel.blobs.uri import file_path, scheme
from mlaas.kernel.errors import Invalid, NotFound
from mlaas.runtimes.data import cache
from mlaas.runtimes.taskfile import Input, TaskFile


def fetch(task: TaskFile, field: str) -> Path:
    """The file or folder that the input `field` names. It may be shared with other tasks: never write to it.

    `file:` is used where it is; `s3:`, `hf:` and `blobs:` come into `task.cache` once and are kept there by content.
    Raises Invalid (naming the field) for what is gone or has changed since the task was accepted, Forbidden, Unavailable, Full.
    """
    source = task.inputs.get(field)
    if source is None:
        raise Invalid(f"The task names no {field}.", field=field)
    if not source.uri:
        raise Invalid(f"The task's {field} was not resolved.", field=field)
    return _SCHEMES.get(scheme(source.uri), _unknown)(task, field, source)


def _file(_task: TaskFile, field: str, source: Input) -> Path:
    path = file_path(source.uri)
    if not path.exists():
        raise Invalid(
            f"{path} is gone since the task was accepted.", field=field, hint="Put it back, or name another path."
        )
    return path


def _s3(task: TaskFile, field: str, source: Input) -> Path:
    from mlaas.runtimes.data.s3 import fetch_s3

    return fetch_s3(Path(task.cache or "cache"), field, source)


def _hub(task: TaskFile, field: str, source: Input) -> Path:
    from mlaas.runtimes.data.hub import fetch_hub

    return fetch_hub(field, source)


def _blobs(task: TaskFile, field: str, source: Input) -> Path:
    from mlaas.kernel.blobs.open import open_blobs

    digest = source.uri.removeprefix("blobs:")
    if not task.blobs:
        raise Invalid(f"The task's {field} is kept by the platform, but this task knows no blob store.", field=field)
    blobs = open_blobs(task.blobs)

    def take(partial: Path) -> None:
        try:
            materialise(blobs, digest, partial / "content")
        except NotFound:
            hint = "The task that made it was deleted; run it again."
            raise Invalid(f"The content of {field} is no longer kept.", field=field, hint=hint) from None

    return cache.entry(Path(task.cache or "cache"), source.uri, blobs.size(digest) or 0, take)


def _unknown(_task: TaskFile, field: str, source: Input) -> Path:
    raise Invalid(f"The task's {field} has an address of an unknown kind: {source.uri}.", field=field)


_SCHEMES: dict[str, Callable[[TaskFile, str, Input], Path]] = {"file": _file, "s3": _s3, "hf": _hub, "blobs": _blobs}
