"""Every call of the SDK as data: method, path, query, body. The two clients only send them, so nothing is written twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]
ENDED = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


PLATFORM_KINDS = frozenset({"projects"})
"""Plurals of the kinds that belong to the platform and to no project."""


MANIFESTS = {
    "inferenceservices": "serving.kserve.io/v1beta1",
    "inferencegraphs": "serving.kserve.io/v1alpha1",
    "trainedmodels": "serving.kserve.io/v1alpha1",
    "servingruntimes": "serving.kserve.io/v1alpha1",
    "clusterservingruntimes": "serving.kserve.io/v1alpha1",
}
"""Plurals of kinds of other systems, which are shown as manifests of theirs: their paths are those of Kubernetes' API."""
CLUSTER_WIDE = frozenset({"clusterservingruntimes"})


def _path(project: str | None, *parts: str) -> str:
    names = "/".join(quote(part, safe="") for part in parts)
    if parts[0] in MANIFESTS:
        group = MANIFESTS[parts[0]]
        if project is None or parts[0] in CLUSTER_WIDE:
            return f"/apis/{group}/{names}"
        return f"/apis/{group}/namespaces/{quote(project, safe='-')}/{names}"
    return (
        f"/api/v1/{names}"
        if project is None or parts[0] in PLATFORM_KINDS
        else f"/api/v1/projects/{quote(project, safe='-')}/{names}"
    )


def create(project: str | None, plural: str, resource: Json) -> Call:
    return Call("POST", _path(project, plural), body=resource)


def get(project: str | None, plural: str, name: str) -> Call:
    return Call("GET", _path(project, plural, name))


def listing(
    project: str | None,
    plural: str,
    *,
    labels: Mapping[str, str] | None = None,
    phases: Sequence[str] = (),
    prefix: str = "",
    order: str = "name",
    limit: int | None = None,
    after: str | None = None,
) -> Call:
    if plural in MANIFESTS:
        return Call("GET", _path(project, plural))
    query: Json = {"order": order}
    if labels:
        query["labels"] = ",".join(f"{key}={value}" for key, value in labels.items())
    if phases:
        query["phase"] = ",".join(phases)
    if prefix:
        query["prefix"] = prefix
    if limit is not None:
        query["limit"] = limit
    if after:
        query["after"] = after
    return Call("GET", _path(project, plural), query)


def replace(project: str | None, plural: str, resource: Json) -> Call:
    version = resource["meta"]["version"]
    return Call(
        "PUT",
        _path(project, plural, resource["meta"]["name"]),
        body=resource,
        headers={"If-Match": f'"{version}"'},
    )


def patch(project: str | None, plural: str, name: str, change: Json, version: int | None) -> Call:
    headers = {"Content-Type": "application/merge-patch+json"}
    if version is not None:
        headers["If-Match"] = f'"{version}"'
    return Call("PATCH", _path(project, plural, name), body=change, headers=headers)


def delete(project: str | None, plural: str, name: str) -> Call:
    return Call("DELETE", _path(project, plural, name))


def apply(project: str, text: bytes) -> Call:
    return Call(
        "POST", "/api/v1/apply", {"project": project}, content=text, headers={"Content-Type": "application/yaml"}
    )


def cancel(project: str, name: str) -> Call:
    return Call("POST", _path(project, "tasks", name, "cancel"))


def logs(project: str, name: str, follow: bool, offset: int, plural: str = "tasks", replica: str | None = None) -> Call:
    query: dict[str, Any] = {"follow": int(follow), "offset": offset}
    if replica and plural == "services":
        query["replica"] = replica
    elif replica:
        role, _, index = replica.rpartition("-")
        query |= {"role": role, "index": index} if index.isdecimal() else {"role": replica}
        query = {key: value for key, value in query.items() if value != ""}
    return Call("GET", _path(project, plural, name, "logs"), query)


def promote(project: str, name: str, canary: str | None) -> Call:
    return Call("POST", _path(project, "services", name, "promote"), body={"canary": canary} if canary else None)


def rollback(project: str, name: str) -> Call:
    return Call("POST", _path(project, "services", name, "rollback"))


def proxy(project: str, name: str, path: str, body: Json) -> Call:
    """A request to a service, through the platform's gateway."""
    return Call("POST", _path(project, "services", name, "proxy") + f"/{quote(path, safe='/:')}", body=body)


def service_tokens(project: str, name: str) -> Call:
    return Call("GET", _path(project, "services", name, "tokens"))


def create_service_token(project: str, name: str, ttl: float | None, token: str | None) -> Call:
    body: Json = {key: value for key, value in (("name", token), ("ttl", ttl)) if value is not None}
    return Call("POST", _path(project, "services", name, "tokens"), body=body)


def delete_service_token(project: str, name: str, token: str) -> Call:
    return Call("DELETE", _path(project, "services", name, "tokens", token))


def renew_service_token(project: str, name: str) -> Call:
    return Call("POST", _path(project, "services", name, "tokens", "self", "renew"))


def series(project: str, plural: str, name: str, what: str) -> Call:
    return Call("GET", _path(project, plural, name, what))


def answer(uid: str, wait: float | None = None) -> Call:
    """A task in the institute's form, with its whole result."""
    headers = {"Prefer": f"wait={int(wait)}"} if wait else {}
    return Call("GET", f"/api/v1/tasks/{quote(uid, safe='')}", headers=headers)


def tokens() -> Call:
    return Call("GET", "/api/v1/tokens")


def create_token(name: str, role: str, projects: Sequence[str], expires_in: float | None) -> Call:
    body: Json = {"name": name, "role": role}
    if projects:
        body["projects"] = list(projects)
    if expires_in is not None:
        body["expires_in"] = expires_in
    return Call("POST", "/api/v1/tokens", body=body)


def delete_token(name: str) -> Call:
    return Call("DELETE", f"/api/v1/tokens/{quote(name, safe='')}")


def doctor() -> Call:
    return Call("GET", "/api/v1/doctor")


def task(name: str | None, spec: Json, labels: Mapping[str, str] | None = None) -> Json:
    """The resource to post. Without a name the platform makes one."""
    meta: Json = {"labels": dict(labels or {})}
    if name:
        meta["name"] = name
    return {"kind": "task", "meta": meta, "spec": spec}
