"""Routes of tasks: the institute's form under `/api/v1/tasks`, and `cancel` beside the generic routes."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from mlaas.kernel import web
from mlaas.kernel.auth import Principal
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Forbidden, Invalid, NotFound
from mlaas.kernel.resource import Resource
from mlaas.kernel.store.base import Query as StoreQuery
from mlaas.kinds.task import answer, commands, form
from mlaas.kinds.task.documentation import ANSWER, BRIEF, LIST, RESOURCE, described
from mlaas.kinds.task.outcome import large_results
from mlaas.kinds.task.spec import KIND

DEFAULT_PROJECT = "default"
LONGEST_WAIT = 3600.0
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)

TaskId = Annotated[str, Path(description="The task's `task_id`.", json_schema_extra={"maxLength": 64})]
Prefer = Annotated[
    str | None, Header(description="`wait=30`: answer when it has ended, at most after 30 s.", max_length=200)
]
Name = Annotated[str, Path(max_length=253)]


def router(context: Context) -> APIRouter:
    """All of them; who asks was authenticated before."""
    routes = APIRouter(tags=["tasks"])

    @routes.post(
        "/api/v1/tasks",
        operation_id="post_form",
        **described("Submit a task in the institute's form", 201, BRIEF, (404, 409, 413, 415, 507), body=form.schema),
    )
    async def submit(request: Request, prefer: Prefer = None) -> Response:
        filled = form.read(await web.document(request))
        project = filled.project or _own_project(web.principal(request))
        web.check(request, "create", KIND.name, project)
        task = await commands.create(context, filled, project)
        headers = {"Location": f"/api/v1/tasks/{task.meta.uid}", **web.etag(task)}
        seconds = wait_of(prefer)
        if seconds is None:
            return web.answer(answer.brief(task), 201, headers)
        task = await commands.until_ended(context, task, seconds, request.is_disconnected)
        return await _whole(task, 201, {**headers, "Preference-Applied": f"wait={seconds:.0f}"})

    @routes.get("/api/v1/tasks", operation_id="list_forms", **described("List tasks, newest first", 200, LIST, ()))
    async def listed(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
        after: Annotated[str | None, Query(description="`next` of the page before.", max_length=1000)] = None,
    ) -> Response:
        web.check(request, "list", KIND.name, None)
        projects = web.principal(request).projects
        query = StoreQuery(kind=KIND.name, projects=projects, order="-created", limit=limit, after=after)
        page = await context.database.list(query)
        return web.answer({"items": [answer.brief(task) for task in page.items], "next": page.next})

    @routes.get(
        "/api/v1/tasks/{task_id}", operation_id="get_form", **described("Answer of a task", 200, ANSWER, (404,))
    )
    async def get(request: Request, task_id: TaskId, prefer: Prefer = None) -> Response:
        task = await _find(request, "get", task_id)
        seconds = wait_of(prefer)
        headers = web.etag(task)
        if seconds is not None:
            task = await commands.until_ended(context, task, seconds, request.is_disconnected)
            headers = {**web.etag(task), "Preference-Applied": f"wait={seconds:.0f}"}
        return await _whole(task, 200, headers)

    @routes.delete(
        "/api/v1/tasks/{task_id}",
        operation_id="delete_form",
        **described("Cancel a task, then remove it", 202, BRIEF, (404, 409)),
    )
    async def delete(request: Request, task_id: TaskId) -> Response:
        task = await _find(request, "delete", task_id)
        meta = task.meta
        left = await context.database.delete(KIND.name, meta.project, meta.name, version=None)
        context.hint(KIND.name, meta.project, meta.name)
        return web.answer(answer.brief(left or task), 202)

    @routes.post(
        "/api/v1/projects/{project}/tasks/{name}/cancel",
        operation_id="cancel_task",
        **described("Cancel a task", 202, RESOURCE, (404, 409)),
    )
    async def cancel(request: Request, project: Name, name: Name) -> Response:
        web.check(request, "update", KIND.name, project)
        try:
            task = await commands.cancel(context, project, name)
        except NotFound:
            raise NotFound(
                f"There is no task '{name[:80]}' in project '{project[:80]}'.", hint="`mlaas get tasks` lists them."
            ) from None
        return web.answer(task.to_json(), 202, web.etag(task))

    async def _find(request: Request, verb: Any, task_id: str) -> Resource:
        task = await commands.find(context, task_id)
        try:
            web.check(request, verb, KIND.name, task.meta.project)
        except Forbidden:
            principal = web.principal(request)
            if principal.projects is not None and task.meta.project not in principal.projects:
                raise NotFound(
                    f"There is no task with the id '{task_id[:80]}'.", hint="GET /api/v1/tasks lists them."
                ) from None
            raise
        return task

    async def _whole(task: Resource, status: int, headers: dict[str, str]) -> Response:
        large = await large_results(context.blobs, task.status)
        return web.answer(answer.whole(task, large), status, headers)

    return routes


def _own_project(principal: Principal) -> str:
    """The project of a form that names none: the token's, or `default`. Raises Invalid when the token has several others."""
    if principal.projects is None or DEFAULT_PROJECT in principal.projects:
        return DEFAULT_PROJECT
    if len(principal.projects) == 1:
        return next(iter(principal.projects))
    names: Sequence[str] = sorted(principal.projects)
    raise Invalid(
        "project: this token is for several projects; say which.", field="project", hint=f"One of {', '.join(names)}."
    )


def wait_of(prefer: str | None) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240, section 4.3); other preferences are for others."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST_WAIT) if found else None
