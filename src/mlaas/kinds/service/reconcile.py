"""The life of a service: its model resolved, served, watched; its revisions kept, its canaries judged.

The reconciler is the only writer of a service's status. Every step may be repeated.
"""

from typing import Any

import orjson

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.errors import Conflict, Error, Fenced, NotFound, Unavailable
from mlaas.kernel.loop import Again, Done
from mlaas.kernel.resource import Json, Resource, now, set_condition
from mlaas.kernel.store.base import Event
from mlaas.kinds.service.fleet import Fleet
from mlaas.kinds.service.references import resolve_all
from mlaas.kinds.service.schema import ServiceSpec
from mlaas.kinds.service.spec import FINALIZER
from mlaas.kinds.service.table import deployment, numbered, revisions_of
from mlaas.kinds.service.tokens import end_all

REVISIONS = 10
"""How many earlier predictors a service remembers."""
_WAIT = 2.0


def reconcilers(context: Context) -> list["ServiceReconciler"]:
    return [ServiceReconciler(context)]


class ServiceReconciler:
    """One step of one service towards its spec."""

    kind = "service"

    def __init__(self, context: Context) -> None:
        self.context = context
        self.fleet = Fleet(context)
        context.services = self.fleet
        self._leaving: dict[str, int] = {}  # uid of a deleted service -> the change that takes it out of the table

    async def reconcile(self, project: str, name: str) -> Done | Again:
        try:
            service = await self.context.database.get("service", project, name)
        except NotFound:
            return Done()
        try:
            return await self._step(service)
        except Fenced:
            raise
        except Conflict:
            return Again(0.0)  # somebody wrote it meanwhile: read it afresh

    async def _step(self, service: Resource) -> Done | Again:
        if service.meta.deleted:
            return await self._remove(service)
        before = orjson.dumps(service.status)
        if service.status.get("observed_generation") != service.meta.generation:
            wait = await self._resolve(service)
            if wait is not None:
                return wait
        self._observe(service)
        if orjson.dumps(service.status) != before:
            await self._save(service)
            self.fleet.changed()
        return Again(_WAIT) if service.status["phase"] in ("Loading", "Pending") else Done()

    async def _resolve(self, service: Resource) -> Done | Again | None:
        """What the spec names, as exact content. A spec that cannot be resolved leaves what was served before."""
        spec = ServiceSpec.model_validate(service.spec)
        try:
            resolved = await resolve_all(self.context, service.meta.project, spec)
        except (Unavailable, Conflict) as error:
            if set_condition(service.status, "Resolved", "False", "Waiting", error.message):
                service.status.setdefault("phase", "Pending")
                await self._save(service)
            return Again(5.0)
        except Error as error:
            service.status["observed_generation"] = service.meta.generation
            service.status["error"] = error.summary()
            if "serving" not in service.status:
                service.status["phase"] = "Failed"
                set_condition(service.status, "Ready", "False", "NotResolved", error.message)
            if set_condition(service.status, "Resolved", "False", "NotResolved", error.message):
                await self._tell(service, "NotResolved", error.message, warning=True)
            await self._save(service)
            return Done()
        status = service.status
        status.pop("error", None)
        set_condition(status, "Resolved", "True", "Resolved", "")
        status.update(resolved=resolved, serving=service.spec, observed_generation=service.meta.generation)
        self._number(service, spec, resolved)
        return None

    def _number(self, service: Resource, spec: ServiceSpec, resolved: Json) -> None:
        """Give each new revision its version, and remember the predictor."""
        status, name = service.status, service.meta.name
        versions: dict[str, int] = status.setdefault("versions", {})
        for found in revisions_of(name, spec, resolved):
            versions.setdefault(found["revision"], len(versions) + 1)
        if spec.predictor is None:
            return
        latest = numbered(deployment(name, spec.predictor, "predictor", resolved), versions)
        status["latest"] = latest["revision"]
        history = [each for each in status.get("revisions", []) if each["revision"] != latest["revision"]]
        record = {
            "revision": latest["revision"],
            "version": latest["version"],
            "created": now(),
            "predictor": service.spec["predictor"],
            "resolved": resolved.get("predictor.model"),
        }
        status["revisions"] = [*history, record][-REVISIONS:]
        # an aborted canary that is asked for anew gets its chance again
        status["aborted"] = (
            {revision: reason for revision, reason in (status.get("aborted") or {}).items() if revision in versions}
            if spec.rollout.canary_traffic_percent is not None or spec.rollout.canary
            else {}
        )

    # -- what the server says

    def _observe(self, service: Resource) -> None:
        status = service.status
        spec = ServiceSpec.model_validate(status.get("serving") or service.spec)
        found = self.fleet.found(service.meta.project, service.meta.name)
        if spec.host:
            status["phase"] = "Ready"
            set_condition(status, "Ready", "True", "Host", "trained models that name it are served")
            return
        self._address(service)
        if found is None:
            why = self.fleet.trouble(service.meta.project, service.meta.name)
            why = why or self.fleet.problem or "the model server has been told to load it"
            status["phase"] = "Pending" if status.get("phase") != "Failed" else "Failed"
            set_condition(status, "Ready", "False", "ServerStarting", why)
            return
        units = {unit["revision"]: unit for unit in found["units"]}
        self._aborts(service, found)
        self._restarts(service, units)
        status["traffic"] = _traffic(found, status, spec)
        status["units"] = [_unit(unit) for unit in found["units"]]
        status["replicas"] = sum(
            max(1, len(unit.get("workers", []))) for unit in units.values() if unit["phase"] == "Ready"
        )
        if spec.graph:
            status.pop("replicas")  # its steps have some
            missing = self._missing(service.meta.project, spec)
            status["phase"] = "Loading" if missing else "Ready"
            if missing:
                set_condition(status, "Ready", "False", "StepsMissing", f"no service is served as {', '.join(missing)}")
            else:
                set_condition(status, "Ready", "True", "GraphServed", "")
            return
        self._judge(service, spec, found, units.get(str(status.get("latest"))))

    def _missing(self, project: str, spec: ServiceSpec) -> list[str]:
        """Services that steps of the graph name and the server does not have (yet)."""
        named = dict.fromkeys(step.service for node in spec.graph.values() for step in node.steps if step.service)
        return [name for name in named if self.fleet.found(project, name) is None]

    def _judge(self, service: Resource, spec: ServiceSpec, found: Json, latest: Json | None) -> None:
        """Phase and conditions; the latest predictor becomes the stable one once it is served in full."""
        status = service.status
        cold = spec.scaling.min_replicas == 0 and latest is not None and latest["phase"] == "Cold"
        aside = str(latest.get("last_error") or "") if latest is not None and "set_aside" in latest else ""
        ready = latest is not None and (latest["phase"] == "Ready" or cold)
        trouble = self.fleet.trouble(service.meta.project, service.meta.name)
        reason = str((latest or {}).get("reason") or trouble or found.get("problem") or "")
        if aside:
            reason = f"its workers keep dying, so it is tried again only now and then. The last: {aside}"
            if set_condition(status, "PredictorReady", "False", "SetAside", reason):
                self._later(service, "SetAside", reason, warning=True)
        elif ready:
            set_condition(status, "PredictorReady", "True", "AtZero" if cold else "Loaded", "")
        elif latest is not None and latest["phase"] == "Failed":
            if set_condition(status, "PredictorReady", "False", "LoadFailed", reason):
                self._later(service, "LoadFailed", reason, warning=True)
        else:
            set_condition(status, "PredictorReady", "False", "Loading", trouble or "the model is loading")
        percent = spec.rollout.canary_traffic_percent
        if ready and (percent is None or percent >= 100) and spec.predictor is not None:
            stable = numbered(
                deployment(service.meta.name, spec.predictor, "predictor", status["resolved"]), status["versions"]
            )
            if (status.get("stable") or {}).get("revision") != stable["revision"]:
                self._later(service, "RolledOut", f"revision {stable['revision']} takes all traffic")
            status["stable"], status["revision"] = stable, stable["revision"]
        if aside and not found["ready"]:
            status["phase"] = "Degraded"
            set_condition(status, "Ready", "False", "SetAside", reason)
        elif found["ready"] and ready and _took_over(found, latest, percent):
            status["phase"] = "Ready"
            set_condition(status, "Ready", "True", "Serving", "")
        elif found["ready"]:
            status["phase"] = "Degraded" if latest is not None and latest["phase"] == "Failed" else "Loading"
            if ready:
                text = "the latest revision is loaded and takes over"
            else:
                text = f"revision {status.get('revision') or '-'} answers; {reason or 'the latest one is loading'}"
            set_condition(status, "Ready", "True", "EarlierRevision", text)
        else:
            failed = latest is not None and latest["phase"] == "Failed"
            status["phase"] = "Failed" if failed else "Loading"
            set_condition(status, "Ready", "False", "LoadFailed" if failed else "Loading", reason)

    def _aborts(self, service: Resource, found: Json) -> None:
        aborted: Json = service.status.setdefault("aborted", {})
        for side in found.get("traffic", []):
            reason = side.get("aborted")
            if reason and side["revision"] not in aborted:
                aborted[side["revision"]] = reason
                set_condition(service.status, "CanaryHealthy", "False", "Aborted", reason)
                self._later(service, "CanaryAborted", f"{side['revision']}: {reason}", warning=True)

    def _restarts(self, service: Resource, units: dict[str, Json]) -> None:
        """Tell of workers that died since the status was written."""
        before = {unit["revision"]: unit.get("restarts", 0) for unit in service.status.get("units") or []}
        for revision, unit in units.items():
            if unit.get("restarts", 0) > before.get(revision, 0):
                why = str(unit.get("last_error") or "it ended")
                self._later(service, "WorkerDied", f"{revision}: {why}", warning=True)

    def _address(self, service: Resource) -> None:
        engine: Any = self.fleet.engine
        if not isinstance(engine, CanServe):
            return
        found = engine.addresses()
        project, name = service.meta.project, service.meta.name
        base = found["http"] if project == "default" else f"{found['http']}/projects/{project}"
        service.status["url"] = f"{base}/v2/models/{name}"
        service.status["address"] = {
            "v1": f"{base}/v1/models/{name}:predict",
            "v2": f"{base}/v2/models/{name}/infer",
            "grpc": found["grpc"],
        }

    # -- its end

    async def _remove(self, service: Resource) -> Done | Again:
        """Out of the table first, then gone."""
        change = self._leaving.get(service.meta.uid)
        if change is None:
            change = self._leaving[service.meta.uid] = self.fleet.changed()
        if self.fleet.problem == "" and not self.fleet.covers(change):
            return Again(0.1)
        self._leaving.pop(service.meta.uid, None)
        await end_all(self.context, service.meta.project, service.meta.name)
        if FINALIZER in service.meta.finalizers:
            service.meta.finalizers.remove(FINALIZER)
            await self._save(service)
        return Done()

    async def _save(self, service: Resource) -> None:
        said, self._said = self._said, []
        await self.context.database.update(service, fence=self.context.fence())
        for event in said:
            await self.context.database.record(event)

    _said: list[Event] = []  # noqa: RUF012

    def _later(self, service: Resource, reason: str, message: str, warning: bool = False) -> None:
        """Record an event with the write of the status that it belongs to."""
        self._said = [*self._said, _event(service, reason, message, warning)]

    async def _tell(self, service: Resource, reason: str, message: str, warning: bool = False) -> None:
        await self.context.database.record(_event(service, reason, message, warning))


def _event(service: Resource, reason: str, message: str, warning: bool) -> Event:
    meta = service.meta
    return Event(
        owner=meta.uid,
        project=meta.project,
        kind="service",
        name=meta.name,
        reason=reason,
        message=message,
        type="Warning" if warning else "Normal",
    )


def _took_over(found: Json, latest: Json | None, percent: int | None) -> bool:
    """Whether the server gives the latest predictor what it is to have: a new one is a dark launch until it is loaded, and a
    moment longer."""
    sides = found.get("traffic")
    if not sides or latest is None or (percent is not None and percent < 100):
        return True
    return bool(sides[0]["revision"] == latest["revision"])


def _traffic(found: Json, status: Json, spec: ServiceSpec) -> list[Json]:
    sides = found.get("traffic")
    if not sides:
        revision = (status.get("stable") or {}).get("revision") or status.get("latest")
        return [{"revision": revision, "percent": 100}] if revision and not spec.graph else []
    canaries = [{key: side[key] for key in ("revision", "percent", "aborted") if key in side} for side in sides[1:]]
    rest = 100 - sum(side["percent"] for side in canaries)
    return [{"revision": sides[0]["revision"], "percent": rest}, *canaries]


def _unit(unit: Json) -> Json:
    """What of a unit a service shows: no pids, no counters that change with every request. `replicas` are its workers; a compiled
    model has none."""
    keys = ("revision", "phase", "reason", "format", "compiled", "kind", "parity", "int8", "device", "restarts")
    shown = {key: unit[key] for key in keys if key in unit}
    if "set_aside" in unit:
        shown |= {"set_aside": True, "last_error": unit.get("last_error", "")}
    return {**shown, "replicas": len(unit["workers"])} if unit.get("workers") else shown
