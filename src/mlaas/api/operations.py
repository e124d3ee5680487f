"""What can be done to a resource of any kind, without HTTP: create, replace, patch, apply, delete, on behalf of somebody.

Who may do it was decided before (`api.auth`).
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from mlaas.api import envelope
from mlaas.api.envelope import Draft
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Conflict, Exists, Immutable, Invalid, NotFound, PreconditionFailed
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import PLATFORM, Json, Kind, Meta, Resource, check_name
from mlaas.kernel.store.base import Query
from mlaas.kernel.validation import nearest, validated

ATTEMPTS = 8
"""How often a change that names no version is tried anew when a reconciler wrote in between."""

GOING = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Seconds between looks whether a deleted resource is gone."""

Action = Literal["created", "configured", "unchanged"]


@dataclass(frozen=True, slots=True)
class Operations:
    context: Context

    async def get(self, kind: Kind, project: str, name: str) -> Resource:
        """Raises NotFound, which says how to list what there is."""
        try:
            return await self.context.database.get(kind.name, project, name)
        except NotFound:
            if kind.scope == "project":
                with suppress(Conflict):
                    await self.check_project(project)
            where = f"project '{project[:80]}'" if project else "the platform"
            raise NotFound(
                f"There is no {kind.name} '{name[:80]}' in {where}.", hint=f"`mlaas get {kind.plural}` lists them."
            ) from None

    async def check_project(self, project: str) -> None:
        """Raises NotFound with the nearest project there is, or Conflict when it is being deleted."""
        database = self.context.database
        try:
            resource = await database.get("project", PLATFORM, project)
        except NotFound:
            names = [item.meta.name for item in (await database.list(Query(kind="project", limit=1000))).items]
            meant = nearest(project, names)
            hint = f"Did you mean '{meant}'?" if meant else "Create it first: POST /api/v1/projects, or `mlaas apply`."
            raise NotFound(f"There is no project '{project[:80]}'.", hint=hint) from None
        if resource.meta.deleted:
            raise Conflict(f"The project '{project}' is being deleted.", hint="Use another project.")

    async def create(self, kind: Kind, project: str, draft: Draft) -> Resource:
        """Stored. Raises Exists, Invalid, and what the kind refuses."""
        if not kind.creatable:
            raise Invalid(f"A {kind.name} is made by the platform only.", field="kind", hint="Create a task.")
        if draft.project not in (None, project):
            raise Invalid(
                f"meta.project is '{str(draft.project)[:80]}', the address says '{project}'.", field="meta.project"
            )
        if kind.scope == "project":
            await self.check_project(project)
        for attempt in range(ATTEMPTS):
            name = draft.name or envelope.generated_name(kind, draft.spec)
            meta = Meta(check_name(name), project, title=draft.title or "", labels=draft.labels or {})
            resource = Resource(kind.name, meta, draft.spec, {}, kind.schema_version)
            try:
                if kind.validate is not None:
                    await kind.validate(self.context, resource)
                created = await self.context.database.create(resource)
            except Exists:
                if draft.name or attempt == ATTEMPTS - 1:
                    raise
                continue
            self._hint(created)
            return created
        raise AssertionError

    async def replace(self, kind: Kind, project: str, name: str, draft: Draft, version: int | None) -> Resource:
        """The resource as `draft` says; labels and title that it leaves out are gone. Raises PreconditionFailed when it is
        no longer at `version`, Immutable."""
        draft = replace(draft, labels=draft.labels or {}, title=draft.title or "")
        stored = await self.get(kind, project, name)
        return (await self._update(kind, stored, draft, version))[0]

    async def patch(self, kind: Kind, project: str, name: str, change: Any, version: int | None) -> Resource:
        """A merge patch (RFC 7396) of meta.labels, meta.title and spec."""
        if not isinstance(change, dict):
            raise Invalid(
                "A merge patch is an object (RFC 7396); a JSON patch (RFC 6902) is not accepted.", field="body"
            )
        change = envelope.normal(change)
        change.pop("status", None)
        for attempt in range(ATTEMPTS):
            stored = await self.get(kind, project, name)
            patched = merge_patch(_writable(stored), change)
            draft = envelope.read(patched, kind)
            draft = replace(draft, labels=draft.labels or {}, title=draft.title or "")
            try:
                return (await self._update(kind, stored, draft, version or draft.version))[0]
            except Conflict as error:
                if type(error) is not Conflict or version is not None or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    async def apply(self, kind: Kind, project: str, draft: Draft) -> tuple[Action, Resource]:
        """Created when it is not there, else made as `draft` says; labels and title that it leaves out stay."""
        if draft.name is None:
            raise Invalid("A document to apply needs a name.", field="meta.name")
        for attempt in range(ATTEMPTS):
            try:
                stored = await self.context.database.get(kind.name, project, draft.name)
            except NotFound:
                try:
                    return "created", await self.create(kind, project, draft)
                except Exists:
                    continue
            try:
                resource, changed = await self._update(kind, stored, draft, draft.version)
                return ("configured" if changed else "unchanged"), resource
            except Conflict as error:
                if type(error) is not Conflict or attempt == ATTEMPTS - 1:
                    raise
        raise Conflict(f"The {kind.name} '{draft.name}' keeps changing.", hint="Try again.")

    async def delete(self, kind: Kind, project: str, name: str, version: int | None) -> tuple[Resource, bool]:
        """The resource as it was or is now, and whether it is gone already."""
        stored = await self.get(kind, project, name)
        _check_version(stored, version)
        if kind.validate_delete is not None:
            await kind.validate_delete(self.context, stored)
        left = await self.context.database.delete(kind.name, project, name, version=version)
        self._hint(stored)
        if left is None:
            return stored, True
        return left, await self._gone(left)

    async def _gone(self, resource: Resource) -> bool:
        """Whether it goes within half a second, as most do: then whoever deleted it need not ask again."""
        meta = resource.meta
        for pause in GOING:
            await asyncio.sleep(pause)
            try:
                now = await self.context.database.get(resource.kind, meta.project, meta.name)
            except NotFound:
                return True
            if now.meta.uid != meta.uid:
                return True
        return False

    async def _update(self, kind: Kind, stored: Resource, draft: Draft, version: int | None) -> tuple[Resource, bool]:
        meta = stored.meta
        _check_version(stored, version)
        if draft.name not in (None, meta.name):
            raise Immutable(f"The name of a {kind.name} cannot change.", field="meta.name")
        if draft.project not in (None, meta.project):
            raise Immutable(f"A {kind.name} cannot move to another project.", field="meta.project")
        labels = meta.labels if draft.labels is None else draft.labels
        title = meta.title if draft.title is None else draft.title
        if draft.spec == stored.spec and labels == meta.labels and title == meta.title:
            return stored, False
        if meta.deleted and draft.spec != stored.spec:
            raise Conflict(f"The {kind.name} '{meta.name}' is being deleted.", hint="Wait until it is gone.")
        check_immutable(kind, stored.spec, draft.spec)
        wanted = Resource(
            stored.kind, replace(meta, labels=labels, title=title), draft.spec, stored.status, stored.schema_version
        )
        updated = await self.context.database.update(wanted)
        self._hint(updated)
        return updated, True

    def _hint(self, resource: Resource) -> None:
        self.context.hint(resource.kind, resource.meta.project, resource.meta.name)


def check_immutable(kind: Kind, stored: Json, wanted: Json) -> None:
    """Raises Immutable for the first field that differs and may not. What is left out counts as its default."""
    if kind.mutable is None or stored == wanted:
        return
    before, after = _complete(kind, stored), _complete(kind, wanted)
    for key in sorted(before.keys() | after.keys()):
        if key not in kind.mutable and before.get(key) != after.get(key):
            allowed = ", ".join(f"spec.{name}" for name in sorted(kind.mutable))
            raise Immutable(
                f"spec.{key} of a {kind.name} cannot change after creation.",
                field=f"spec.{key}",
                hint=f"Create another {kind.name}. What may change: {allowed}, meta.labels, meta.title.",
            )


def _complete(kind: Kind, spec: Json) -> Json:
    document: Json = validated(kind.spec_type, spec, "spec").model_dump(mode="json", by_alias=True)
    return document


def _writable(stored: Resource) -> Json:
    """What a patch may change, as a document."""
    return {
        "kind": stored.kind,
        "meta": {"name": stored.meta.name, "title": stored.meta.title, "labels": stored.meta.labels},
        "spec": stored.spec,
    }


def _check_version(stored: Resource, version: int | None) -> None:
    if version is not None and version != stored.meta.version:
        raise PreconditionFailed(
            f"The {stored.kind} '{stored.meta.name}' is at version {stored.meta.version}, not {version}.",
            hint="Read it again, make the change on what you read, and send that version.",
        )
