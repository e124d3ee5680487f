"""What every kind of foreign manifest has: how it is read into a resource of ours, and how that is shown as one again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error, Invalid
from mlaas.kernel.resource import Json, Resource, Scope


@dataclass(slots=True)
class Notes:
    """What is said of a manifest while it is read.

    `warnings` are fields that are taken in another sense or not at all; `problems` make it refused; `places` says for fields of
    ours which field of the manifest they came from, so that an error found later names what its writer wrote.
    """

    warnings: list[dict[str, str]] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def warn(self, where: str, message: str) -> None:
        self.warnings.append({"field": where, "message": message})

    def refuse(self, where: str, message: str, hint: str = "") -> None:
        self.problems.append({"field": where, "message": message})
        if hint:
            self.hints.append(hint)

    def check(self) -> None:
        """Raises Invalid with everything that was refused."""
        if not self.problems:
            return
        first = self.problems[0]
        raise Invalid(
            f"{first['field']}: {first['message']}",
            field=first["field"],
            hint=self.hints[0] if self.hints else None,
            errors=self.problems[:20],
        )


@dataclass(frozen=True, slots=True)
class Translation:
    """A foreign document as one of ours (`{kind, meta, spec}`), with what is to be said of it."""

    document: Json
    notes: Notes

    @contextmanager
    def relocated(self) -> Iterator[None]:
        """Errors from within name the fields of the manifest instead of ours."""
        try:
            yield
        except Error as error:
            raise self._relocate(error) from None

    def _relocate(self, error: Error) -> Error:
        for item in error.errors:
            item["field"] = self._place(item.get("field", ""))
        if error.field:
            before, error.field = error.field, self._place(error.field)
            if error.message.startswith(f"{before}: "):
                error.message = f"{error.field}{error.message.removeprefix(before)}"
        return error

    def _place(self, where: str) -> str:
        known = [ours for ours in self.notes.places if where == ours or where.startswith(f"{ours}.")]
        if not known:
            return where
        longest = max(known, key=len)
        return self.notes.places[longest]


class Foreign(ABC):
    """One kind of manifest of another system. `ours` is the kind of ours that it becomes."""

    group: ClassVar[str]
    version: ClassVar[str]
    kind: ClassVar[str]
    plural: ClassVar[str]
    ours: ClassVar[str]
    scope: ClassVar[Scope] = "project"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @abstractmethod
    async def read(self, context: Context, document: Json, project: str) -> Translation:
        """`project` is that of documents that name none. Raises Invalid naming fields of the manifest."""

    @abstractmethod
    def shows(self, resource: Resource) -> bool:
        """Whether a resource of the kind `ours` is one of this kind."""

    @abstractmethod
    def show(self, resource: Resource) -> Json:
        """The resource as a manifest, with its status in the other system's words."""

    def place(self, project: str) -> str:
        """The project that resources of this kind lie in, for what is asked in `project`: for those of scope platform, one of
        the platform's own."""
        return project


def envelope(foreign: Foreign, resource: Resource, annotations: dict[str, str], spec: Json, status: Json) -> Json:
    """The manifest around a spec, with the metadata that a server sets."""
    meta = resource.meta
    metadata: dict[str, Any] = {
        "name": meta.name,
        "namespace": meta.project,
        "uid": meta.uid,
        "resourceVersion": str(meta.version),
        "generation": meta.generation,
        "creationTimestamp": meta.created,
    }
    if meta.labels:
        metadata["labels"] = meta.labels
    if annotations:
        metadata["annotations"] = annotations
    if meta.deleted:
        metadata["deletionTimestamp"] = meta.deleted
    if meta.finalizers:
        metadata["finalizers"] = meta.finalizers
    return {
        "apiVersion": foreign.api_version,
        "kind": foreign.kind,
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }
