"""Resources (`kind`, `meta`, `spec`, `status`) and the registry of kinds.

A resource is a document: `spec` and `status` are plain JSON objects in the store and on the wire. A kind gives them their
types: `kind.spec_type.model_validate(resource.spec)`.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mlaas.kernel.errors import Invalid, NotFound

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")
"""A DNS-1123 label of at most 50 characters (RFC 1123, section 2.1), so that derived names stay under 63."""

Json = dict[str, Any]
ConditionStatus = Literal["True", "False", "Unknown"]
Scope = Literal["project", "platform"]
PLATFORM = ""
"""The `project` of a resource of scope platform."""


def now() -> str:
    """This moment, ISO 8601 in UTC with milliseconds, as every timestamp of a resource is written."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Meta:
    """What every resource has.

    `version` is the store revision of the last write (0: not stored yet); `generation` counts changes of `spec`;
    `deleted` is set when deletion was asked for: the resource goes once `finalizers` is empty.
    """

    name: str
    project: str = PLATFORM
    uid: str = ""
    version: int = 0
    generation: int = 1
    title: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] | None = None  # {kind, name, uid}, in the same project
    created: str = ""
    deleted: str | None = None
    finalizers: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Resource:
    """One document of the store. `schema_version` is that of the kind when it was written."""

    kind: str
    meta: Meta
    spec: Json = field(default_factory=dict)
    status: Json = field(default_factory=dict)
    schema_version: int = 1

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    def to_json(self) -> Json:
        meta = self.meta
        document: Json = {
            "kind": self.kind,
            "schema_version": self.schema_version,
            "meta": {
                "name": meta.name,
                "project": meta.project,
                "uid": meta.uid,
                "version": meta.version,
                "generation": meta.generation,
                "title": meta.title,
                "labels": meta.labels,
                "created": meta.created,
                "deleted": meta.deleted,
                "finalizers": meta.finalizers,
            },
            "spec": self.spec,
            "status": self.status,
        }
        if meta.owner:
            document["meta"]["owner"] = meta.owner
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Resource":
        return cls(
            kind=document["kind"],
            meta=Meta(**document["meta"]),
            spec=document.get("spec") or {},
            status=document.get("status") or {},
            schema_version=document.get("schema_version", 1),
        )


def set_condition(status: Json, kind: str, value: ConditionStatus, reason: str, message: str = "") -> bool:
    """Set condition `kind` in `status["conditions"]`; True when anything changed.

    `last_transition_time` moves only when the condition's status does (Kubernetes API conventions, "Typical status
    properties").
    """
    conditions: list[Json] = status.setdefault("conditions", [])
    fresh: Json = {"type": kind, "status": value, "reason": reason, "message": message}
    for condition in conditions:
        if condition["type"] == kind:
            if all(condition.get(key) == fresh[key] for key in fresh):
                return False
            if condition["status"] != value:
                condition["last_transition_time"] = now()
            condition.update(fresh)
            return True
    conditions.append({**fresh, "last_transition_time": now()})
    return True


def condition(status: Json, kind: str) -> Json | None:
    """The condition of type `kind`, or None."""
    return next((c for c in status.get("conditions", []) if c["type"] == kind), None)


class Spec(BaseModel):
    """Base of all spec models: unknown keys are refused (the API names the nearest known one), and so is a value of another
    type, as the published schema says: `true` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="null")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the platform knows of one kind of resource.

    `mutable` lists the top-level spec fields that may change after creation (None: all may). `upgrades[n]` turns a
    document of schema version n into one of n + 1, purely; they run on read. `finalizers` are set on creation.
    """

    name: str
    plural: str
    spec_type: type[BaseModel] | Any
    scope: Scope = "project"
    schema_version: int = 1
    mutable: frozenset[str] | None = None
    finalizers: tuple[str, ...] = ()
    upgrades: Mapping[int, Callable[[Json], Json]] = field(default_factory=dict)
    columns: tuple[tuple[str, str], ...] = ()  # (heading, path) for tables, for example ("PHASE", "status.phase")
    creatable: bool = True  # False: users read it, only the platform writes it (workload)
    description: str = ""
    # Called with (context, resource) before a create is stored: refuses by raising from the error tree what the spec's
    # type cannot know (a missing file, a taken target, more than the machine has).
    validate: "Callable[[Any, Resource], Awaitable[None]] | None" = None
    # The same before a delete is stored: raises Conflict for what cannot go (a project that is not empty).
    validate_delete: "Callable[[Any, Resource], Awaitable[None]] | None" = None

    def upgrade(self, document: Json) -> Json:
        """`document` in this kind's current schema version."""
        version = document.get("schema_version", 1)
        while version < self.schema_version:
            document = {**self.upgrades[version](document), "schema_version": version + 1}
            version += 1
        return document


class Kinds:
    """The registry: kinds by name and by plural."""

    def __init__(self, kinds: list[Kind]) -> None:
        self.by_name = {kind.name: kind for kind in kinds}
        self.by_plural = {kind.plural: kind for kind in kinds}

    def __iter__(self) -> Any:
        return iter(self.by_name.values())

    def get(self, name_or_plural: str) -> Kind:
        """The kind of this name or plural; NotFound lists those that exist."""
        kind = self.by_name.get(name_or_plural) or self.by_plural.get(name_or_plural)
        if kind is None:
            raise NotFound(
                f"There is no kind '{name_or_plural}'.", hint="Kinds here: " + ", ".join(sorted(self.by_name)) + "."
            )
        return kind


def check_name(name: str, field_name: str = "meta.name") -> str:
    """`name` itself, if it is a DNS-1123 label of at most 50 characters; else Invalid."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Invalid(
            f"'{str(name)[:80]}' is no name: use 1 to 50 lower-case letters, digits and '-', "
            "beginning and ending with a letter or digit.",
            field=field_name,
            hint="Put a free text into meta.title.",
        )
    return name
