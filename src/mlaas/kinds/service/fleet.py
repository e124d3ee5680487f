"""The model server and what it is told: one for all services of this platform.

The table is made from the store each time, so that it is whole whoever pushes it; tokens are part of it, so that a revocation
reaches the server within a second.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from typing import Any

import orjson

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.errors import Conflict, Error, Exists, Fenced, NotFound, Unavailable
from mlaas.kernel.events import CloudEvent
from mlaas.kernel.resource import PLATFORM, Json, Meta, Resource
from mlaas.kernel.store.base import Query
from mlaas.kernel.workload import WorkloadSpec
from mlaas.kinds.service.schema import ServiceSpec
from mlaas.kinds.service.table import service as table_service

log = logging.getLogger(__name__)

PROJECT = "system"
"""Where the model server's workload lives: what the platform itself runs."""
WORKLOAD = "model-server"
_TICK = 0.25
_LOOK = 1.0
_PAGE = 1000


class Fleet:
    """Pushes the table when something changed, looks at the server's status, and tells the loop which services changed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.token = secrets.token_urlsafe(32)
        """What the platform's own gateway calls private services with; known to this process and, as a digest, to the server."""
        self._dirty = True
        self._pushed = ""  # the revision of the table that the server took
        self._generation = 0  # counts pushes that the server took
        self._wanted = 0  # counts changes
        self._covered = 0  # changes that a push has covered
        self._found: dict[tuple[str, str], Json] = {}
        self._waiting: dict[tuple[str, str], str] = {}
        self._admitted: Json | None = None  # who may call what, as the server was told
        self.problem = "the model server starts"
        if self.engine is not None:
            self.engine.listen(self._publish)

    def changed(self) -> int:
        """Something that the table says is different now; the number that `covers` takes."""
        self._dirty = True
        self._wanted += 1
        return self._wanted

    def covers(self, change: int) -> bool:
        """Whether the server has a table that has this change."""
        return self._covered >= change

    async def admitted(self, project: str, service: str, digest: str, seconds: float = 2.0) -> None:
        """Return once the server lets a token call a service, so that its first call is answered. At once where the server has no
        table yet, and after so many seconds in any case."""
        end = time.monotonic() + seconds
        while self._pushed and time.monotonic() < end:
            callers: dict[str, dict[str, list[str]]] = (self._admitted or {}).get("service_tokens", {})
            if digest in callers.get(project, {}).get(service, []):
                return
            await asyncio.sleep(_TICK / 10)

    def trouble(self, project: str, name: str) -> str:
        """Why what a service's spec says is not served yet, where it cannot be: its content is on its way, or cannot be had."""
        return self._waiting.get((project, name), "")

    def found(self, project: str, name: str) -> Json | None:
        """What the server says of a service; None: it does not have it yet."""
        return self._found.get((project, name))

    @property
    def engine(self) -> CanServe | None:
        engine: Any = self.context.engine if self.context.engines else None
        return engine if isinstance(engine, CanServe) else None

    async def run(self) -> None:
        """Look after the server as long as this platform leads: it answers before there is any service."""
        looked = 0.0
        while True:
            try:
                if self.context.fence() is not None:
                    await self._ensure_server()
                    await self._admit()
                    await self._push()
                if time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    await self._look()
            except Unavailable as error:
                self.problem = await self._why(error.message)
                self._lost()
            except (Fenced, Conflict):
                pass
            except Error as error:
                self.problem = error.message
                log.warning("the model server: %s", error.message)
                await asyncio.sleep(1.0)
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("the model server cannot be looked after")
                await asyncio.sleep(5.0)
            await asyncio.sleep(_TICK)

    # -- the process

    async def _ensure_server(self) -> None:
        """Have the workload that runs the server, as this platform would start it."""
        engine = self.engine
        wanted = engine.server() if engine is not None else None
        if wanted is None:
            return
        database, document = self.context.database, wanted.model_dump(mode="json")
        try:
            workload = await database.get("workload", PROJECT, WORKLOAD)
        except NotFound:
            await self._create(document)
            return
        ended = workload.phase in ("Succeeded", "Failed", "Cancelled")
        if not workload.meta.deleted and (ended or _differs(workload.spec, document)):
            await database.delete("workload", PROJECT, WORKLOAD, fence=self.context.fence())
            self.context.hint("workload", PROJECT, WORKLOAD)

    async def _create(self, document: Json) -> None:
        description = {"description": "What the platform itself runs."}
        for resource in (
            Resource("project", Meta(PROJECT, PLATFORM), description, {}),
            Resource("workload", Meta(WORKLOAD, PROJECT), document, {"phase": "Pending"}),
        ):
            try:
                await self.context.database.create(resource, fence=self.context.fence())
            except Exists:
                pass
        self.context.hint("workload", PROJECT, WORKLOAD)

    async def _why(self, message: str) -> str:
        """Why the server does not answer: what its workload says, where that says more."""
        try:
            workload = await self.context.database.get("workload", PROJECT, WORKLOAD)
        except Error:
            return message
        history = workload.status.get("history") or []
        if workload.phase == "Pending" and history:
            last = history[-1].get("message") or message
            return f"{last}; `mlaas logs workload/{WORKLOAD} --project {PROJECT}` says more"
        return message

    # -- what it is told

    async def _admit(self) -> None:
        """Tell the server who may call what, apart from the table: a revocation waits for nothing else."""
        engine = self.engine
        if engine is None:
            return
        admission = await self._admission()
        if self._pushed and admission != self._admitted:
            await engine.admit(admission)
        self._admitted = admission  # what was not told now is part of the table

    async def _push(self) -> None:
        engine = self.engine
        if engine is None:
            return
        wanted = self._wanted
        if self._dirty or self._waiting:
            table = {
                "services": await self._services(),
                "controlled": True,
                "memory": self.context.settings.model_memory,
            }
            revision = hashlib.sha256(orjson.dumps(table, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
            if revision != self._pushed or self._waiting:
                self._wait(await engine.serve({**table, **(self._admitted or {}), "revision": revision}))
                self._pushed = revision
            self._dirty = self._wanted != wanted
        self._covered = wanted

    def _wait(self, waiting: dict[tuple[str, str], str]) -> None:
        before, self._waiting = self._waiting, waiting
        for key in before.keys() | waiting.keys():
            if before.get(key) != waiting.get(key):
                self.context.hint("service", *key)

    async def _services(self) -> list[Json]:
        found: list[Json] = []
        after: str | None = None
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        while True:
            page = await self.context.database.list(Query(kind="service", limit=_PAGE, after=after))
            for each in page.items:
                resolved = each.status.get("resolved")
                if each.meta.deleted or resolved is None:
                    continue
                spec = ServiceSpec.model_validate(each.status.get("serving") or each.spec)
                if spec.host:
                    continue
                try:
                    document = table_service(each.meta.project, each.meta.name, spec, resolved, each.status)
                except KeyError:
                    continue  # the spec names what is not resolved yet; its own step will say
                document["access"]["tokens"] = [digest]
                found.append(document)
            if page.next is None:
                return found
            after = page.next

    async def _admission(self) -> Json:
        """The digests of the tokens of each project's members, of those that call one service, and when they end."""
        now = time.time()
        tokens = [
            token
            for token in await self.context.database.tokens()
            if token.workload is None and (token.expires is None or token.expires > now)
        ]
        members = [token for token in tokens if token.service is None]
        callers: dict[str, dict[str, list[str]]] = {}
        for token in tokens:
            if token.service is not None:
                for project in token.projects or ():
                    callers.setdefault(project, {}).setdefault(token.service, []).append(token.digest)
        projects = await self.context.database.list(Query(kind="project", limit=5000))
        return {
            "domain": self.context.settings.domain,
            "project_tokens": {
                name: sorted(token.digest for token in members if token.projects is None or name in token.projects)
                for name in (project.meta.name for project in projects.items)
            },
            "service_tokens": callers,
            "expires": {token.digest: token.expires for token in tokens if token.expires is not None},
        }

    # -- what it says

    async def _publish(self, events: list[str]) -> None:
        """Put payload events of services on the bus. Raises Unavailable where there is none."""
        if self.context.bus is None:
            raise Unavailable("This platform has no bus.")
        for event in events:
            await self.context.bus.publish(CloudEvent.from_json(event))

    async def _look(self) -> None:
        engine = self.engine
        if engine is None:
            return
        status = await engine.serving()
        if status.get("revision", "") != self._pushed:  # it was started anew between two looks
            self._lost()
            return
        self.problem = ""
        found = {(each["project"], each["name"]): each for each in status["services"]}
        before, self._found = self._found, found
        for key in found.keys() | before.keys():
            if _telling(found.get(key)) != _telling(before.get(key)):
                self.context.hint("service", *key)

    def _lost(self) -> None:
        """The server is away: when it is back it knows nothing."""
        self._pushed, self._dirty = "", True
        gone, self._found = self._found, {}
        for key in gone:
            self.context.hint("service", *key)


def _differs(stored: Json, wanted: Json) -> bool:
    """Whether the workload is to be another one: its command or its mode, not what changes by itself."""
    try:
        one, other = WorkloadSpec.model_validate(stored), WorkloadSpec.model_validate(wanted)
    except ValueError:
        return True
    return one.roles != other.roles or one.mode != other.mode


def _telling(found: Json | None) -> Any:
    """What of the server's status a service's own status shows."""
    if found is None:
        return None
    told = ("revision", "phase", "reason", "compiled", "restarts")
    units = [(*map(unit.get, told), len(unit.get("workers", [])), "set_aside" in unit) for unit in found["units"]]
    traffic = [(side["revision"], side["percent"], side.get("aborted")) for side in found.get("traffic", [])]
    return found["ready"], found.get("problem"), units, traffic
