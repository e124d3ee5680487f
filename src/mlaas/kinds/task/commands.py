"""What users do to tasks beside what the generic API offers: create from the form, find by id, cancel, wait for the end."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from mlaas.kernel.context import Context
from mlaas.kernel.errors import Conflict, Error, Exists, NotFound
from mlaas.kernel.resource import PLATFORM, Meta, Resource, now
from mlaas.kernel.store.base import Query
from mlaas.kinds.task.form import Filled
from mlaas.kinds.task.life import CANCELLED, ENDED
from mlaas.kinds.task.spec import KIND

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # spell no word
_ATTEMPTS = 8


async def create(context: Context, form: Filled, project: str) -> Resource:
    """Stored. Fields of errors are named as the form names them. Raises NotFound for an unknown project, Exists, Invalid."""
    await _check_project(context, project)
    for attempt in range(_ATTEMPTS):
        name = form.name or f"{form.spec['recipe']}-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
        task = Resource(KIND.name, Meta(name, project), dict(form.spec), {}, KIND.schema_version)
        try:
            if KIND.validate is not None:
                await KIND.validate(context, task)
            created = await context.database.create(task)
        except Exists as error:
            if form.name is None and error.field is None and attempt < _ATTEMPTS - 1:
                continue  # somebody has just been given the same letters
            raise _as_form(error) from None
        except Error as error:
            raise _as_form(error) from None
        context.hint(KIND.name, project, created.meta.name)
        return created
    raise AssertionError


async def _check_project(context: Context, project: str) -> None:
    try:
        found = await context.database.get("project", PLATFORM, project)
    except NotFound:
        hint = "Create it first: POST /api/v1/projects."
        raise NotFound(f"There is no project '{project}'.", field="project", hint=hint) from None
    if found.meta.deleted:
        raise Conflict(f"The project '{project}' is being deleted.", hint="Use another project.")


def _as_form(error: Error) -> Error:
    """Without the `spec.` that the generic API has before its fields."""
    if error.field:
        error.field = error.field.removeprefix("spec.")
    error.errors = [{**item, "field": item["field"].removeprefix("spec.")} for item in error.errors]
    return error


async def find(context: Context, uid: str) -> Resource:
    """The task of this id. Raises NotFound."""
    page = await context.database.list(Query(kind=KIND.name, uid=uid, limit=1))
    if not page.items:
        raise NotFound(f"There is no task with the id '{uid[:80]}'.", hint="GET /api/v1/tasks lists them.")
    return page.items[0]


async def cancel(context: Context, project: str, name: str) -> Resource:
    """Ask for the end of a task; it is Cancelled once nothing of it runs any more. Raises NotFound, Conflict if it has ended."""
    for _ in range(_ATTEMPTS):
        task = await context.database.get(KIND.name, project, name)
        if task.phase == CANCELLED or task.status.get("cancel"):
            return task
        if task.phase in ENDED:
            raise Conflict(f"The task '{name}' has ended: {task.phase}.", hint="There is nothing to cancel.")
        task.status["cancel"] = {"requested": now()}
        try:
            updated = await context.database.update(task)
        except Conflict:
            continue  # the reconciler wrote meanwhile
        context.hint(KIND.name, project, name)
        return updated
    raise Conflict(f"The task '{name}' keeps changing.", hint="Try again.")


async def until_ended(
    context: Context, task: Resource, seconds: float, interrupted: Callable[[], Awaitable[bool]]
) -> Resource:
    """The task as soon as it has ended, or as it is after `seconds`, or when `interrupted`."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while task.phase not in ENDED and time.monotonic() < deadline and not await interrupted():
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.3, 0.25)
        try:
            fresh = await context.database.get(KIND.name, task.meta.project, task.meta.name)
        except NotFound:
            return task
        if fresh.meta.uid != task.meta.uid:
            return task
        task = fresh
    return task
