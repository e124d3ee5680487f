"""From services to the model server's table. Pure.

A revision's name follows from what it serves, so that the same predictor is the same revision whenever it comes back.
"""

import hashlib
from typing import Any

import orjson

from mlaas.kernel.resource import Json
from mlaas.kinds.service.schema import Code, Explainer, Predictor, Remote, ServiceSpec


def deployment(name: str, predictor: Predictor, field: str, resolved: Json) -> Json:
    """One predictor as the table has it, with its revision. `resolved`: field -> {uri, hash}."""
    document: Json = {
        "format": predictor.format,
        "trusted": predictor.trusted,
        "environment": predictor.environment.requirements if predictor.environment else [],
        "device": predictor.device,
        "compile": predictor.compile,
        "options": predictor.options,
        "timeout": predictor.timeout,
        "memory": predictor.memory,
        "workers": predictor.workers,
    }
    if predictor.int8 is not None:
        rows = resolved[f"{field}.int8.rows"]
        document["int8"] = {"source": rows["uri"], "hash": rows["hash"], "max_drop": predictor.int8.max_drop}
    if predictor.remote is not None:
        document["remote"] = _remote(predictor.remote, name)
    else:
        found = resolved[f"{field}.model"]
        document |= {"source": found["uri"], "hash": found["hash"]}
    revision = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    return {"revision": f"{name}-{revision}", **document}


def service(project: str, name: str, spec: ServiceSpec, resolved: Json, status: Json) -> Json:
    """One service of the table. `status` has `stable` (the deployment that was served in full), `versions` (revision -> number)
    and `aborted` (revisions of canaries that get nothing)."""
    document: Json = {
        "name": name,
        "project": project,
        "access": {"public": spec.access == "public"},
        "scaling": spec.scaling.model_dump(),
    }
    if spec.batcher is not None:
        document["batcher"] = spec.batcher.model_dump()
    if spec.logger is not None:
        document["logger"] = spec.logger.model_dump()
    if spec.transformer is not None:
        document["transformer"] = _code(spec.transformer, "transformer", name, resolved)
    if spec.explainer is not None:
        document["explainer"] = _explainer(spec.explainer, name, resolved)
    if spec.graph:
        document["graph"] = {node: found.model_dump() for node, found in spec.graph.items()}
        return document
    assert spec.predictor is not None
    versions: dict[str, int] = status.get("versions") or {}
    latest = numbered(deployment(name, spec.predictor, "predictor", resolved), versions)
    stable = status.get("stable") or latest
    rollout: Json = {"sticky_header": spec.rollout.sticky_header, "abort": _abort(spec)}
    percent = spec.rollout.canary_traffic_percent
    canaries = [
        (canary.name, canary.traffic_percent, numbered(_canary(name, spec, place, resolved), versions))
        for place, canary in enumerate(spec.rollout.canary)
    ]
    if stable["revision"] != latest["revision"] and (
        (percent is not None and percent < 100) or not _loaded(latest, status)
    ):
        # Until the latest one is loaded it is a dark launch: the one before goes on answering, also over a restart.
        document["predictor"] = stable
        canaries.append(("latest", percent or 0, latest))
    else:
        document["predictor"] = latest
    aborted = status.get("aborted") or {}
    rollout["canary"] = [
        {"name": label, "traffic_percent": 0 if one["revision"] in aborted else share, "predictor": one}
        for label, share, one in canaries
    ]
    if spec.rollout.shadow is not None:
        rollout["shadow"] = numbered(
            deployment(f"{name}-shadow", spec.rollout.shadow, "rollout.shadow", resolved), versions
        )
    document["rollout"] = rollout
    return document


def _loaded(latest: Json, status: Json) -> bool:
    """Whether the server said that it has this deployment: in memory, or left it again because it was idle."""
    units = {unit["revision"]: unit["phase"] for unit in status.get("units") or []}
    return units.get(latest["revision"]) in ("Ready", "Cold")


def numbered(found: Json, versions: dict[str, int]) -> Json:
    """The deployment with its version: a number for each revision, in the order in which they came."""
    return {**found, "version": str(versions.get(found["revision"], len(versions) + 1))}


def revisions_of(name: str, spec: ServiceSpec, resolved: Json) -> list[Json]:
    """The deployments that this spec names, the predictor first."""
    if spec.predictor is None:
        return []
    found = [deployment(name, spec.predictor, "predictor", resolved)]
    found += [_canary(name, spec, place, resolved) for place in range(len(spec.rollout.canary))]
    if spec.rollout.shadow is not None:
        found.append(deployment(f"{name}-shadow", spec.rollout.shadow, "rollout.shadow", resolved))
    return found


def _canary(name: str, spec: ServiceSpec, place: int, resolved: Json) -> Json:
    canary = spec.rollout.canary[place]
    found = deployment(name, canary.predictor, f"rollout.canary.{place}.predictor", resolved)
    return (
        found
        if spec.predictor is None or canary.predictor != spec.predictor
        else {
            **found,
            "revision": f"{found['revision']}-{canary.name}",
        }
    )


def _abort(spec: ServiceSpec) -> dict[str, float]:
    if spec.rollout.abort is None:
        return {}
    return {key: float(value) for key, value in spec.rollout.abort.model_dump().items() if value is not None}


def _remote(remote: Remote, name: str) -> Json:
    return {**remote.model_dump(), "model_name": remote.model_name or name}


def _code(code: Code, field: str, name: str, resolved: Json) -> Json:
    found: dict[str, Any] = {
        "trusted": code.trusted,
        "environment": code.environment.requirements if code.environment else [],
    }
    if code.remote is not None:
        return {**found, "remote": _remote(code.remote, name)}
    return {**found, "source": resolved[f"{field}.source"]["uri"]}


def _explainer(explainer: Explainer, name: str, resolved: Json) -> Json:
    found: dict[str, Any] = {
        "method": explainer.method,
        "options": explainer.options,
        "trusted": explainer.trusted,
    }
    if explainer.remote is not None:
        return {**found, "remote": _remote(explainer.remote, name)}
    if explainer.source:
        return {**found, "source": resolved["explainer.source"]["uri"]}
    return found
