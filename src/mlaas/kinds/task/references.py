"""What a task reads and writes: names resolved to exact content, and checked as far as can be known before work starts."""

import asyncio
import os
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

from mlaas.kernel.blobs import hub
from mlaas.kernel.blobs.tree import CLAIM, MARK
from mlaas.kernel.blobs.uri import file_path, file_uri, scheme
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error, Invalid, NotFound, Unavailable
from mlaas.kernel.resource import NAME, Json
from mlaas.kernel.taskoutput import task_output
from mlaas.kinds.task import content
from mlaas.kinds.task.schema import AnySpec
from mlaas.runtimes.data.spec import Source, Target

Role = Literal["model", "tokenizer", "dataset", "input"]
TASK = "task:"
ALLOW = "Let the user that the platform runs as read it."
LOOK = 5.0
"""Seconds that a look into files may take before a task is accepted."""
_ELSEWHERE = (TASK, "s3://", "hf://")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing a task reads: the dotted field, its source, and what it should be."""

    field: str
    source: Source
    role: Role


def readings(spec: AnySpec) -> list[Reading]:
    """All that the task reads."""
    if spec.recipe == "script":
        return [Reading(f"inputs.{name}", source, "input") for name, source in sorted(spec.inputs.items())]
    if spec.recipe == "fit":
        return [Reading("dataset", spec.dataset, "dataset")]
    found = [Reading("model", spec.model, "model")]
    if spec.tokenizer is not None:
        found.append(Reading("tokenizer", spec.tokenizer, "tokenizer"))
    if spec.recipe != "predict":
        found.append(Reading("dataset", spec.dataset, "dataset"))
    return found


def targets(spec: AnySpec) -> dict[str, Target]:
    """Field -> where the task saves."""
    fields = ("model_save", "vector_store_save")
    return {field: value for field in fields if (value := getattr(spec, field, None)) is not None}


async def resolve_all(context: Context, project: str, spec: AnySpec) -> Json:
    """Field -> `{uri, hash}` for all that the task reads. Raises from the error tree with the field of the first that fails."""
    resolved: Json = {}
    for reading in readings(spec):
        resolved[reading.field] = await _resolve(context, project, reading)
    # The recipe itself reads the data set in a moment.
    await _look(context, spec, {field: found["uri"] for field, found in resolved.items() if field != "dataset"})
    return resolved


async def check_readable(context: Context, project: str, spec: AnySpec) -> None:
    """What can be known before a task is accepted: sources on this machine and in S3 are there, and are what they should
    be; tasks have ended; repositories of a hub have a name that can be one. The hub itself is asked later: it may be slow."""
    uris: dict[str, str] = {}
    for reading in readings(spec):
        source = reading.source
        if source.storage_type == "local" and not source.path.startswith(_ELSEWHERE):
            try:
                uris[reading.field] = await asyncio.to_thread(_locate, context, reading)
            except Invalid as error:
                error.hint = await _meant_task(context, project, source.path) or error.hint
                raise
        elif _on_hub(source):
            await asyncio.to_thread(_check_hub, reading)
        else:
            uris[reading.field] = (await _resolve(context, project, reading))["uri"]
    await _look(context, spec, uris)


async def _look(context: Context, spec: AnySpec, uris: dict[str, str]) -> None:
    """Into what is on this disk. A disk that does not answer is no reason to refuse: the recipe will see."""
    places = {field: file_path(uri) for field, uri in uris.items() if scheme(uri) == "file"}
    if not places or spec.recipe == "script":
        return
    looking = asyncio.to_thread(content.check, spec, places, _resolver(context).roots.readable)
    with suppress(TimeoutError):
        await asyncio.wait_for(looking, LOOK)


def _on_hub(source: Source) -> bool:
    if source.path.startswith("hf://"):
        return True
    return source.storage_type == "hugging_face_hub" and not source.path.startswith((TASK, "s3://", "file://"))


def _check_hub(reading: Reading) -> None:
    """Raises Invalid for what is no repository id, and, offline, for what is not in the local cache."""
    field = f"{reading.field}.path"
    address = hub.parse(reading.source.path, _purpose(reading), field)
    if hub.offline():
        hub.commit_of(address, field)


def _purpose(reading: Reading) -> Literal["model", "dataset"]:
    return "dataset" if reading.role == "dataset" else "model"


async def _meant_task(context: Context, project: str, path: str) -> str | None:
    """The hint for a path whose last part is the name of a task."""
    name = PurePath(path).name
    if NAME.fullmatch(name) is None or await asyncio.to_thread(os.path.lexists, path):
        return None
    try:
        await context.database.get("task", project, name)
    except NotFound:
        return None
    return f"There is a task of that name: write task:{name} for what it made."


def _resolver(context: Context) -> Any:
    if context.resolver is None:
        raise Unavailable("References cannot be resolved yet.", hint="Try again.")
    return context.resolver


def _locate(context: Context, reading: Reading) -> str:
    """The uri of a local source, without the hash of what may be many gigabytes."""
    field = f"{reading.field}.path"
    path = reading.source.path
    roots = _resolver(context).roots
    real: Path = roots.locate(str(file_path(path)) if path.startswith("file://") else path, field)
    if not real.exists():
        first = roots.roots[0]
        raise Invalid(
            f"There is nothing at '{path[:300]}'.", field=field, hint=f"Relative paths are relative to {first}."
        )
    if real.is_dir() and not any(item.name not in (MARK, CLAIM) for item in real.iterdir()):
        raise Invalid(f"The folder '{path[:300]}' is empty.", field=field, hint="Name a folder that holds files.")
    if not real.is_dir() and not real.is_file():
        raise Invalid(
            f"'{path[:300]}' is neither a file nor a folder.", field=field, hint="Pipes and devices are not read."
        )
    if not os.access(real, os.R_OK):
        raise Invalid(f"'{path[:300]}' cannot be read: permission denied.", field=field, hint=ALLOW)
    return file_uri(real)


async def check_targets(context: Context, spec: AnySpec, uid: str = "") -> dict[str, str]:
    """Field -> uri of where the task saves. Raises Exists for a target that something else than task `uid` made."""
    outputs: dict[str, str] = {}
    for field, target in targets(spec).items():
        outputs[field] = await asyncio.to_thread(
            _resolver(context).resolve_target, target.path, target.storage_type, f"{field}.path", task_uid=uid
        )
    return outputs


async def _named(reading: Reading, work: Awaitable[T]) -> T:
    """`work`, whose errors name the field."""
    try:
        return await work
    except Error as error:
        if error.field is None:
            error.field = f"{reading.field}.path"
            error.errors = [{"field": error.field, "message": error.message}]
        raise


async def _resolve(context: Context, project: str, reading: Reading) -> dict[str, str]:
    source, field = reading.source, f"{reading.field}.path"
    if source.path.startswith(TASK):
        return await _named(reading, task_output(context.database, project, source.path.removeprefix(TASK)))
    found = await asyncio.to_thread(
        _resolver(context).resolve, source.path, source.storage_type, field, purpose=_purpose(reading), project=project
    )
    return {"uri": found.uri, "hash": found.hash}
