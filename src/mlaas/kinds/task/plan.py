"""From a task whose references are resolved to the workload that does it. Pure."""

from dataclasses import dataclass
from typing import Any

from mlaas.kernel.resource import Json, Meta, Resource
from mlaas.kernel.workload import Mount, Resources, Role, WorkloadSpec
from mlaas.kinds.task.schema import AnySpec, ScriptSpec, params_of
from mlaas.runtimes.taskfile import Input, TaskFile

MODULES = {
    "finetune": "mlaas.runtimes.transformers.finetune",
    "predict": "mlaas.runtimes.transformers.predict",
    "index": "mlaas.runtimes.embed.index",
    "search": "mlaas.runtimes.embed.search",
    "fit": "mlaas.runtimes.tabular.fit",
}
INTERACTIVE = frozenset({"predict", "search"})
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where recipes find what outlives them: a folder for downloads, and the uri of the blob store."""

    cache: str
    blobs: str


def workload_name(uid: str) -> str:
    """Derived from the owner alone: creating it twice creates one."""
    return f"task-{uid}"


def requested(spec: AnySpec, capacity: Resources) -> Resources:
    """What the task takes of the machine: what it says, the recipe's default for the rest."""
    asked = spec.resources
    if spec.recipe == "finetune":
        default = capacity
    elif spec.recipe in INTERACTIVE:
        default = Resources(cpu=min(1.0, capacity.cpu), memory=capacity.memory)
    elif spec.recipe == "fit":
        default = Resources(cpu=min(1.0, capacity.cpu), memory=min(4 * GIB, capacity.memory))
    else:
        default = Resources(cpu=min(1.0, capacity.cpu), memory=min(GIB, capacity.memory))
    return Resources(
        cpu=default.cpu if asked.cpu is None else asked.cpu,
        memory=default.memory if asked.memory is None else asked.memory,
        gpu=default.gpu if asked.gpu is None else asked.gpu,
    )


def workload_of(
    task: Resource, spec: AnySpec, resolved: Json, outputs: dict[str, str], capacity: Resources, place: Place
) -> Resource:
    """The workload that the task owns. `resolved`: field -> {uri, hash}; `outputs`: field -> uri."""
    resources = requested(spec, capacity)
    role = (
        _script(spec, resolved, resources)
        if isinstance(spec, ScriptSpec)
        else _recipe(task, spec, resolved, outputs, resources, place)
    )
    document = WorkloadSpec(
        roles=[role],
        suspend=spec.suspend,
        queue=spec.queue,
        priority=spec.priority,
        interactive=spec.recipe in INTERACTIVE,
        engine=spec.engine,
        environment=spec.environment,
        time_limit=spec.time_limit,
        backoff_limit=spec.retries,
        trusted=spec.recipe != "script",
    ).model_dump(mode="json")
    meta = Meta(
        workload_name(task.meta.uid),
        task.meta.project,
        owner={"kind": "task", "name": task.meta.name, "uid": task.meta.uid},
        labels={"recipe": spec.recipe},
    )
    return Resource("workload", meta, document, {"phase": "Pending"})


def resolved_of(workload: Resource) -> Json:
    """What a workload of `workload_of` reads, as `resolved` said when it was made."""
    role = WorkloadSpec.model_validate(workload.spec).roles[0]
    if role.task_file is not None:
        inputs: Json = role.task_file["inputs"]
        return inputs
    return {mount.path.replace("/", ".", 1): {"uri": mount.uri, "hash": mount.hash} for mount in role.mounts}


def _script(spec: ScriptSpec, resolved: Json, resources: Resources) -> Role:
    mounts = [
        Mount(path=f"inputs/{name}", uri=resolved[f"inputs.{name}"]["uri"], hash=resolved[f"inputs.{name}"]["hash"])
        for name in sorted(spec.inputs)
    ]
    return Role(command=spec.command, env=spec.env, resources=resources, mounts=mounts)


def _recipe(
    task: Resource, spec: AnySpec, resolved: Json, outputs: dict[str, str], resources: Resources, place: Place
) -> Role:
    params: dict[str, Any] = params_of(spec)
    file = TaskFile(
        uid=task.meta.uid,
        name=task.meta.name,
        project=task.meta.project,
        attempt=0,  # the engine puts in the attempt that it starts
        recipe=spec.recipe,
        params=params,
        inputs={field: Input(entry["uri"], entry.get("hash", "")) for field, entry in resolved.items()},
        outputs=outputs,
        cache=place.cache,
        blobs=place.blobs,
        cores=resources.cpu,
    )
    return Role(recipe=MODULES[spec.recipe], task_file=file.dump(), resources=resources)
