"""One service put together: its deployments as units, and the chain of wrappers in front of them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlaas.kernel.errors import Error
from mlaas.modelserver.load import Loader
from mlaas.modelserver.payloads import Payloads
from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.repository import Model, Repository, Served
from mlaas.modelserver.spans import spanned
from mlaas.modelserver.table import Batcher, Deployment, Service
from mlaas.modelserver.wrap.batched import Batched
from mlaas.modelserver.wrap.canary import Canary, Side
from mlaas.modelserver.wrap.explained import explained
from mlaas.modelserver.wrap.graph import Graph
from mlaas.modelserver.wrap.logged import Logged
from mlaas.modelserver.wrap.shadow import Shadow
from mlaas.modelserver.wrap.transformed import Transformed
from mlaas.modelserver.wrap.unit import Unit


@dataclass(frozen=True, slots=True)
class Parts:
    """What assemblies are made with. `call` finds a model for the steps of a graph."""

    loader: Loader
    make_room: Callable[[Unit], None]
    repository: Repository
    call: Callable[[str, str], Model]


class Assembly:
    """A service of the table as it is served. `before` is what it replaces: equal deployments keep their units, and the old chain
    answers until the new one can."""

    def __init__(self, service: Service, parts: Parts, before: "Assembly | None") -> None:
        self.service = service
        self.problem = ""
        self._parts = parts
        self._before = before
        self._units: dict[str, Unit] = {}
        self._chains: list[Predictor] = []
        self._beside: list[Predictor] = []  # transformer and explainer
        self._asleep = False
        self.model = Model(service.project, service.name, service.access)
        if service.batcher is not None:
            self.model.max_batch_size = service.batcher.max_batch_size
        for deployment in self._deployments():
            self._units[deployment.revision] = self._unit(deployment, before)
        if before is None:
            self._install()

    @property
    def answering(self) -> "Assembly | None":
        """The assembly whose chain answers: this one, or the one before it until this one can."""
        return self._before if self._before is not None else self if self.model.versions else None

    @property
    def units(self) -> list[Unit]:
        return list(self._units.values())

    async def bring_up(self) -> None:
        """Load what is to be loaded ahead of use, then let the new chain answer. Never raises: trouble is in the status."""
        if self.service.scaling.min_replicas > 0 or self._before is not None:
            await asyncio.gather(*(self._try(unit) for unit in self.units))
        stable = self._units.get(self.service.predictor.revision) if self.service.predictor else None
        if self._before is None:
            return
        if stable is not None and stable.phase == "Failed":
            self.problem = f"The new version does not load, the one before it goes on answering. {stable.reason}"
            return
        self._install()

    async def close(self, keep: list[Unit] | None = None) -> None:
        """Close all units but those in `keep`."""
        kept = keep or []
        await asyncio.gather(*(unit.close() for unit in self.units if unit not in kept), return_exceptions=True)
        payloads, self.model.payloads = self.model.payloads, None
        if payloads is not None:
            await payloads.close()

    def wake(self) -> None:
        """Serve again after `sleep`."""
        self._asleep = False
        self._show()

    async def sleep(self) -> None:
        """Unload everything and answer nothing until `wake`."""
        self._asleep = True
        self._show()
        await asyncio.gather(*(unit.unload() for unit in self.units))

    def status(self) -> dict[str, Any]:
        """`{project, name, ready, problem?, versions, units}`."""
        answering = self.answering or self
        versions = [
            {"version": served.version, "state": served.shown[0], "reason": served.shown[1]}
            for served in answering.model.versions.values()
        ]
        found: dict[str, Any] = {
            "project": self.service.project,
            "name": self.service.name,
            "ready": any(served.shown[0] == "READY" for served in answering.model.versions.values()),
            "versions": versions,
            "units": [unit.status() for unit in self.units],
        }
        if self.problem:
            found["problem"] = self.problem
        for chain in self._chains[:1]:
            found |= {key: value for key, value in chain.status().items() if key in ("traffic", "shadow", "logger")}
        return found

    def tails(self) -> dict[str, Any]:
        """Revision and worker, or component and worker -> `{total, lines}`."""
        found: dict[str, Any] = {}
        for unit in self.units:
            revision = unit.deployment.revision
            found |= {f"{revision}/{number}": tail for number, tail in unit.tails().items()}
        for part in self._beside:
            found |= part.tails()
        return found

    def _deployments(self) -> list[Deployment]:
        service = self.service
        found = [*service.versions]
        if service.predictor is not None:
            found.append(service.predictor)
        found += [canary.predictor for canary in service.rollout.canary]
        if service.rollout.shadow is not None:
            found.append(service.rollout.shadow)
        return found

    def _unit(self, deployment: Deployment, before: "Assembly | None") -> Unit:
        unit = before._units.get(deployment.revision) if before is not None else None
        if unit is not None and unit.deployment == deployment:
            unit.changed = self._show
        else:
            unit = Unit(deployment, self._parts.loader, self._parts.make_room, self._show)
        unit.pinned = self.service.scaling.min_replicas > 0
        unit.limit(self.service.scaling.container_concurrency)
        return unit

    def _install(self) -> None:
        """Make the new chain what the repository answers with, keeping the counters of versions that stay."""
        service = self.service
        old = self._before.model if self._before is not None else None
        self.model.payloads = self._payloads()
        chains: dict[str, Predictor] = {
            deployment.version: self._around(self._served_by(deployment)) for deployment in service.versions
        }
        for canary in service.rollout.canary:
            chains.setdefault(canary.predictor.version, self._around(self._served_by(canary.predictor), "canary"))
        default = service.predictor.version if service.predictor is not None else "1"
        chains.pop(default, None)
        chains[default] = self._front()
        self._chains = [chains[default], *(chain for version, chain in chains.items() if version != default)]
        for version, chain in chains.items():
            served = Served(service.name, version, chain)
            if old is not None and version in old.versions:
                served.statistics = old.versions[version].statistics
            self.model.versions[version] = served
        self.model.default = default
        self._before = None
        self._show()
        self._parts.repository.put(self.model)

    def _front(self) -> Predictor:
        """The default version's chain, innermost first: deployment, batcher, canary, shadow, explainer, transformer, logger."""
        service = self.service
        if service.graph:
            return self._logged(Graph(service.graph, lambda name: self._parts.call(service.project, name)))
        assert service.predictor is not None
        chain = self._served_by(service.predictor)
        if service.rollout.canary:
            window = service.rollout.abort.get("window", 60.0)
            stable = Side(service.predictor.revision, service.predictor.version, chain, 0, window)
            sides = [
                Side(
                    one.predictor.revision,
                    one.predictor.version,
                    self._served_by(one.predictor),
                    one.traffic_percent,
                    window,
                )
                for one in service.rollout.canary
            ]
            chain = Canary(stable, sides, service.rollout.sticky_header, service.rollout.abort)
        if service.rollout.shadow is not None:
            chain = Shadow(chain, self._units[service.rollout.shadow.revision])
        return self._around(chain)

    def _served_by(self, deployment: Deployment) -> Predictor:
        batcher = self.service.batcher or Batcher()
        unit = self._units[deployment.revision]
        batched = Batched(unit, batcher, unit.demand)
        return spanned(batched, f"predict {deployment.revision}", revision=deployment.revision)

    def _around(self, chain: Predictor, endpoint: str = "default") -> Predictor:
        service = self.service
        if service.explainer is not None:
            chain = explained(chain, service.explainer, service.predictor, self._parts.loader)
            self._beside.append(chain)
        if service.transformer is not None:
            chain = Transformed(chain, service.transformer, self._parts.loader)
            self._beside.append(chain)
        return self._logged(chain, endpoint)

    def _logged(self, chain: Predictor, endpoint: str = "default") -> Predictor:
        if self.model.payloads is None:
            return chain
        canaries = frozenset(canary.predictor.version for canary in self.service.rollout.canary)
        return Logged(chain, self.model.payloads, canaries, endpoint)

    def _payloads(self) -> Payloads | None:
        """The payload log: of what this assembly replaces, with what waits in it, where it is to be the same."""
        service, before = self.service, self._before
        if before is not None and before.service.logger == service.logger:
            kept, before.model.payloads = before.model.payloads, None
            return kept
        if service.logger is None:
            return None
        return Payloads(service.logger, service.project, service.name, "graph" if service.graph else "predictor")

    async def _try(self, unit: Unit) -> None:
        try:
            await unit.load()
        except Error:
            pass  # its phase and reason are in the status

    def _show(self) -> None:
        """Write the state of the units into the repository's entries, also those of the assembly that still answers."""
        if self._before is not None:
            self._before._show()
        for served in self.model.versions.values():
            unit = next((unit for unit in self.units if unit.deployment.version == served.version), None)
            before = served.shown[0]
            served.aside = unit.aside() if unit is not None else ""
            if self._asleep:
                served.state, served.reason = "UNAVAILABLE", "unloaded"
            elif unit is None or unit.phase == "Ready":
                served.state, served.reason = "READY", ""
            elif unit.phase == "Failed":
                served.state, served.reason = "UNAVAILABLE", unit.reason
            elif unit.phase == "Loading":
                served.state, served.reason = ("READY", "") if self._to_zero() else ("LOADING", "loading")
            else:
                served.state, served.reason = ("READY", "at zero") if self._to_zero() else ("LOADING", "waiting")
            if served.shown[0] != before:
                served.changed = time.time()

    def _to_zero(self) -> bool:
        """Whether a request may wait for the load: it is then ready while it is not in memory."""
        return self.service.scaling.min_replicas == 0
