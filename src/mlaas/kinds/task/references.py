"""What a task reads and writes: names resolved to exact content, and checked as far as can be known before work starts."""

import asyncio
import json
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mlaas.kernel.blobs.tree import CLAIM, MARK
from mlaas.kernel.blobs.uri import file_path, file_uri, scheme
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Conflict, Error, Invalid, NotFound, Unavailable
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.task.schema import AnySpec
from mlaas.runtimes.data.spec import Source, Target

Role = Literal["model", "tokenizer", "dataset", "input"]
TASK = "task:"
_ELSEWHERE = (TASK, "s3://", "hf://")
T = TypeVar("T")

_AUTO_CLASS = {
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
_WEIGHTS = (".safetensors", "pytorch_model.bin", ".safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing a task reads: the dotted field, its source, and what it should be."""

    field: str
    source: Source
    role: Role
    objective: str = ""


def readings(spec: AnySpec) -> list[Reading]:
    """All that the task reads."""
    if spec.recipe == "script":
        return [Reading(f"inputs.{name}", source, "input") for name, source in sorted(spec.inputs.items())]
    found = [Reading("model", spec.model, "model", spec.model.objective)]
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
        found = await _resolve(context, project, reading)
        await _named(reading, asyncio.to_thread(_check_content, found["uri"], reading))
        resolved[reading.field] = found
    return resolved


async def check_readable(context: Context, project: str, spec: AnySpec) -> None:
    """What can be known before a task is accepted: sources on this machine and in S3 are there, and are what they should
    be; tasks have ended. A hub is asked later: it may be slow."""
    for reading in readings(spec):
        source = reading.source
        if source.storage_type == "local" and not source.path.startswith(_ELSEWHERE):
            uri = await asyncio.to_thread(_locate, context, reading)
        elif source.storage_type == "hugging_face_hub" and not source.path.startswith(TASK):
            continue
        else:
            uri = (await _resolve(context, project, reading))["uri"]
        await _named(reading, asyncio.to_thread(_check_content, uri, reading))


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
        raise Invalid(f"'{path[:300]}' is neither a file nor a folder.", field=field)
    if not os.access(real, os.R_OK):
        raise Invalid(f"'{path[:300]}' cannot be read: permission denied.", field=field)
    return file_uri(real)


async def check_targets(context: Context, spec: AnySpec, uid: str = "") -> dict[str, str]:
    """Field -> uri of where the task saves. Raises Exists for a target that something else than task `uid` made."""
    outputs: dict[str, str] = {}
    for field, target in targets(spec).items():
        outputs[field] = await asyncio.to_thread(
            _resolver(context).resolve_target, target.path, target.storage_type, f"{field}.path", task_uid=uid
        )
    return outputs


async def output_of(context: Context, project: str, name: str) -> dict[str, str]:
    """`{uri, hash}` of what the ended task `name` of this project left. Raises NotFound, Conflict or Invalid."""
    try:
        task: Resource = await context.database.get("task", project, name)
    except NotFound:
        raise NotFound(
            f"There is no task '{name[:80]}' in project '{project}'.", hint="`mlaas get tasks` lists them."
        ) from None
    if task.phase != "Succeeded":
        verb = "ended as" if task.phase in ("Failed", "Cancelled") else "is still"
        raise Conflict(f"The task '{name}' {verb} {task.phase or 'Pending'}; only one that succeeded has an output.")
    output = task.status.get("output")
    if not output:
        raise Invalid(f"The task '{name}' left no output.", hint="A script's output is what it writes to output/.")
    return {"uri": output["uri"], "hash": output["hash"]}


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
        return await _named(reading, output_of(context, project, source.path.removeprefix(TASK)))
    purpose = "dataset" if reading.role == "dataset" else "model"
    found = await asyncio.to_thread(
        _resolver(context).resolve, source.path, source.storage_type, field, purpose=purpose, project=project
    )
    return {"uri": found.uri, "hash": found.hash}


def _check_content(uri: str, reading: Reading) -> None:
    """A model is a folder with a configuration and weights that can be read; what is not on this disk is not looked into."""
    if reading.role != "model" or scheme(uri) != "file":
        return
    folder = file_path(uri)
    shown = reading.source.path
    if not folder.is_dir():
        raise Invalid(f"'{shown}' is a file; a model is a folder with config.json, weights and tokenizer.")
    names = {entry.name for entry in folder.iterdir()}
    if "config.json" not in names:
        there = ", ".join(sorted(names)[:8]) or "nothing"
        raise Invalid(
            f"'{shown}' is no model: it has no config.json. It holds {there}.", hint="Name the model's own folder."
        )
    if any(name.endswith(_WEIGHTS) for name in names):
        return
    if "tf_model.h5" in names:
        raise Invalid(
            f"'{shown}' holds only TensorFlow weights (tf_model.h5).",
            hint=f"Convert it: {conversion(folder, reading.objective)}",
        )
    raise Invalid(
        f"'{shown}' has a configuration but no weights.",
        hint="A model folder holds model.safetensors beside config.json.",
    )


def conversion(folder: Path, objective: str) -> str:
    """The command that writes safetensors beside TensorFlow weights; transformers 5 no longer reads those, 4 does."""
    auto = _AUTO_CLASS.get(objective, "AutoModel")
    where = json.dumps(str(folder))
    code = f"from transformers import {auto} as M; M.from_pretrained({where}, from_tf=True).save_pretrained({where})"
    return f"uv run --no-project --with 'transformers<5' --with torch --with tf-keras python -c '{code}'"
