"""Keeps what is served equal to the serving table.

Level-triggered: the table comes whole, what did not change is left alone, and applying it twice changes nothing. A changed
service goes on answering with what it had until the new deployment is loaded; a new version that does not load never takes
traffic from the old one, and the status says why.
"""

import asyncio
import contextlib
import time
from typing import Any

import msgspec

from mlaas.kernel.errors import Error, Forbidden, Invalid, NotFound
from mlaas.modelserver.assembly import Assembly, Parts
from mlaas.modelserver.load import Loader
from mlaas.modelserver.repository import Model, Repository
from mlaas.modelserver.table import Batcher, Deployment, Service, Table
from mlaas.modelserver.wrap.memory import Budget
from mlaas.modelserver.wrap.scale import Autoscaler
from mlaas.modelserver.wrap.unit import Unit

_TICK = 1.0  # seconds between looks at idle models and at the load


class Controller:
    """The one writer of the repository. Everything happens on the event loop that called `start`."""

    def __init__(self, repository: Repository, loader: Loader) -> None:
        self.repository = repository
        self.table = Table()
        self._loader = loader
        self._budget = Budget(pinned=lambda unit: unit.pinned)
        self._assemblies: dict[tuple[str, str], Assembly] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to unload what is idle and to follow demand."""
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def close(self) -> None:
        """Let go of all models; requests in them end first."""
        if self._ticker is not None:
            self._ticker.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(assembly.close() for assembly in self._assemblies.values()), return_exceptions=True)

    def apply(self, table: Table) -> None:
        """Begin to serve this table and no longer what is not in it. Returns at once; `settled` waits for the loads.

        Raises Invalid, with nothing changed, for a table that contradicts itself.
        """
        check(table)
        self.table = table
        self._budget.limit = table.memory
        wanted = {(service.project, service.name): service for service in table.services}
        for key in [key for key in self._assemblies if key not in wanted]:
            self._remove(key)
        for key, service in wanted.items():
            self._put(key, service)

    async def settled(self) -> None:
        """Wait until every load that the table asked for has ended, well or badly."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def status(self) -> dict[str, Any]:
        """`{services: [{project, name, ...}], memory: {...}}`, for the reconciler and the status page."""
        return {
            "services": [assembly.status() for _, assembly in sorted(self._assemblies.items())],
            "memory": {
                "limit": self._budget.limit,
                "used": self._budget.used(),
                "over": self._budget.over(),
                "unloaded": self._budget.unloaded,
            },
        }

    def tails(self, project: str, name: str) -> dict[str, Any]:
        """The last lines that the processes of a service wrote (`Assembly.tails`); none for an unknown one."""
        assembly = self._assemblies.get((project, name))
        if assembly is None:
            return {}
        found = assembly.tails()
        answering = assembly.answering
        if answering is not None and answering is not assembly:
            found = answering.tails() | found
        return found

    async def load(
        self, project: str, name: str, deployment: Deployment | None = None, batcher: Batcher | None = None
    ) -> None:
        """V2 repository load: load (again) a served name, or serve `deployment` under it; `batcher` changes its batching.

        Raises Forbidden where somebody else decides what is served, NotFound for an unknown name, and what loading raises.
        """
        self._own(name)
        assembly = self._assemblies.get((project, name))
        if deployment is not None:
            services = [
                service for service in self.table.services if (service.project, service.name) != (project, name)
            ]
            service = Service(name=name, project=project, predictor=deployment, access=self._access(assembly))
            self.apply(msgspec.structs.replace(self.table, services=[*services, service]))
            assembly = self._assemblies[project, name]
        if assembly is None:
            raise NotFound(f"The server failed to load '{name}': there is no such model.")
        if batcher is not None:
            changed = msgspec.structs.replace(assembly.service, batcher=batcher)
            services = [changed if each == assembly.service else each for each in self.table.services]
            self.table = msgspec.structs.replace(self.table, services=services)
            bringing = self._put((project, name), changed)
            assembly = self._assemblies[project, name]
            assembly.wake()
            if bringing is not None:
                await bringing
        assembly.wake()
        await asyncio.gather(*(unit.load() for unit in assembly.units))

    async def unload(self, project: str, name: str) -> None:
        """V2 repository unload: requests in flight end, then it is UNAVAILABLE until it is loaded again."""
        self._own(name)
        assembly = self._assemblies.get((project, name))
        if assembly is None:
            raise NotFound(f"There is no model '{name}' to unload.")
        await assembly.sleep()

    def _own(self, name: str) -> None:
        if self.table.controlled:
            raise Forbidden(
                f"What is served here follows the services of the platform: change the service '{name}' instead.",
                hint=f"`mlaas get service {name}`, `mlaas apply -f`, `mlaas delete service {name}`.",
            )

    def _access(self, assembly: Assembly | None) -> Any:
        if assembly is not None:
            return assembly.service.access
        return self.table.services[0].access if self.table.services else Service(name="x").access

    def _put(self, key: tuple[str, str], service: Service) -> asyncio.Task[None] | None:
        """The task that brings up what changed; None where nothing did."""
        before = self._assemblies.get(key)
        if before is not None and before.service == service:
            return None
        answering = before.answering if before is not None else None
        parts = Parts(self._loader, self._budget.make_room, self.repository, self._call)
        assembly = Assembly(service, parts, answering)
        self._assemblies[key] = assembly
        if before is not None and before is not answering:  # it never came to answer
            self._spawn(before.close(keep=[*assembly.units, *(answering.units if answering else [])]))
        return self._spawn(self._bring_up(assembly))

    async def _bring_up(self, assembly: Assembly) -> None:
        before = assembly.answering
        await assembly.bring_up()
        if before is not None and before is not assembly and assembly.answering is assembly:
            await before.close(keep=assembly.units)

    def _remove(self, key: tuple[str, str]) -> None:
        assembly = self._assemblies.pop(key)
        self.repository.remove(*key)
        self._spawn(assembly.close())
        if assembly.answering is not None and assembly.answering is not assembly:
            self._spawn(assembly.answering.close(keep=assembly.units))

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _call(self, project: str, name: str) -> Model:
        return self.repository.find(project, name)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        for assembly in list(self._assemblies.values()):
            for unit in assembly.units:
                self._scale(unit, assembly.service.scaling.min_replicas, assembly, now)

    def _scale(self, unit: Unit, least: int, assembly: Assembly, now: float) -> None:
        if unit.due() and (least > 0 or assembly.answering is not assembly):
            self._spawn(self._bring_up(assembly))  # what failed to load is tried again
            return
        if not unit.ready():
            return
        if least == 0 and not unit.busy and now - unit.used > assembly.service.scaling.idle_timeout:
            self._spawn(unit.unload())
            return
        scaler, scaling = unit.scaler, assembly.service.scaling
        if scaler is None or scaler.scaling != scaling:
            scaler = unit.scaler = Autoscaler(scaling, scaler.replicas if scaler is not None else 1)
        wanted = scaler.desired(now, unit.concurrency(), unit.demand.requests)
        with contextlib.suppress(Error):
            unit.resize(max(wanted, unit.deployment.workers))


def check(table: Table) -> None:
    """Raises Invalid for doubled names, services with nothing or two things to serve, and impossible rollouts and graphs."""
    seen: set[tuple[str, str]] = set()
    for place, service in enumerate(table.services):
        where = f"services[{place}]"
        if (service.project, service.name) in seen:
            raise Invalid(f"The service '{service.name}' stands twice in the table.", field=where)
        seen.add((service.project, service.name))
        _check_service(service, where)


def _check_service(service: Service, where: str) -> None:
    if not service.name:
        raise Invalid("A service needs a name.", field=f"{where}.name")
    if (service.predictor is None) == (not service.graph):
        raise Invalid(f"The service '{service.name}' needs either a predictor or a graph.", field=f"{where}.predictor")
    canaries = service.rollout.canary
    revisions = [canary.predictor.revision for canary in canaries]
    if service.predictor is not None:
        revisions.append(service.predictor.revision)
    if len(set(revisions)) != len(revisions):
        raise Invalid("Canary and stable deployments need revisions of their own.", field=f"{where}.rollout.canary")
    if any(not 0 <= canary.traffic_percent <= 100 for canary in canaries) or (
        sum(canary.traffic_percent for canary in canaries) > 100
    ):
        raise Invalid(
            "The canaries' percents are from 0 to 100 and at most 100 together.", field=f"{where}.rollout.canary"
        )
    if service.graph and "root" not in service.graph:
        raise Invalid("A graph starts at the node 'root'.", field=f"{where}.graph")
    for name, node in service.graph.items():
        for step in node.steps:
            if sum(map(bool, (step.service, step.node, step.url))) != 1:
                raise Invalid(
                    f"A step of '{name}' names exactly one of service, node and url.", field=f"{where}.graph.{name}"
                )
            if step.node and step.node not in service.graph:
                raise Invalid(f"There is no node '{step.node}'.", field=f"{where}.graph.{name}")
        if node.router == "Splitter" and sum(step.weight for step in node.steps) != 100:
            raise Invalid(f"The weights of the splitter '{name}' do not sum up to 100.", field=f"{where}.graph.{name}")
