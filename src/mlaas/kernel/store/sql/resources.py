"""Reading and writing resources, as functions over one open transaction.

Every function checks before it writes: one that raises an error of the platform has written nothing, so that several
can share a transaction (see `connections.Writer`).
"""

from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, func, insert, select, update

from mlaas.kernel.errors import Conflict, Exists, Invalid, NotFound
from mlaas.kernel.resource import Json, Kinds, Resource
from mlaas.kernel.store.base import Change
from mlaas.kernel.store.sql import schema
from mlaas.kernel.store.sql.leases import check_fence

CURRENT = select(
    schema.resources.c.uid,
    schema.resources.c.revision,
    schema.resources.c.born,
    schema.revisions.c.document,
).join(schema.revisions, schema.revisions.c.id == schema.resources.c.revision)


def encode(resource: Resource) -> bytes:
    """The stored document: without its version, which is the revision it is stored under. Raises Invalid."""
    document = resource.to_json()
    del document["meta"]["version"]
    try:
        return orjson.dumps(document)
    except (TypeError, RecursionError) as error:
        raise Invalid(
            f"The {resource.kind} '{resource.meta.name}' cannot be written as JSON: {error}.",
            field="spec",
            hint="Use texts, numbers of at most 64 bits, lists and objects, nested at most 250 deep.",
        ) from None


def decode(kinds: Kinds, document: bytes, revision: int) -> Resource:
    """The resource of a stored document, upgraded to its kind's schema version.

    A kind that is not installed any more is left as it was stored: it can still be listed and deleted.
    """
    content: Json = orjson.loads(document)
    kind = kinds.by_name.get(content["kind"])
    if kind is not None:
        content = kind.upgrade(content)
    content["meta"]["version"] = revision
    return Resource.from_json(content)


def current_revision(connection: Connection) -> int:
    """The latest revision. The newest rows may be compacted tombstones, hence the horizon."""
    latest = connection.scalar(select(func.max(schema.revisions.c.id))) or 0
    return max(latest, horizon(connection))


def horizon(connection: Connection) -> int:
    """Changes can be read since this revision, and not from before it."""
    return connection.scalar(select(schema.facts.c.value).where(schema.facts.c.name == "horizon")) or 0


def get(connection: Connection, kinds: Kinds, kind: str, project: str, name: str) -> Resource:
    row = _row(connection, kind, project, name)
    return decode(kinds, row.document, row.revision)


def create(connection: Connection, resource: Resource, fence: int | None) -> Resource:
    """`resource` is complete but for its version."""
    check_fence(connection, fence)
    meta = resource.meta
    taken = connection.execute(CURRENT.where(_key(resource.kind, meta.project, meta.name))).first()
    if taken is not None:
        leaving = orjson.loads(taken.document)["meta"]["deleted"]
        raise Exists(
            f"There is a {resource.kind} '{meta.name}' already" + (", which is being deleted." if leaving else "."),
            field="meta.name",
            hint="The name is free again when it is gone: try again." if leaving else "Choose another name.",
        )
    document = encode(resource)
    revision = _append(connection, resource, document)
    connection.execute(
        insert(schema.resources).values(
            kind=resource.kind,
            project=meta.project,
            name=meta.name,
            uid=meta.uid,
            owner=(meta.owner or {}).get("uid"),
            phase=resource.phase,
            born=revision,
            revision=revision,
        )
    )
    _label(connection, meta.uid, meta.labels)
    return _stored(document, revision)


def replace(connection: Connection, kinds: Kinds, resource: Resource, fence: int | None) -> Resource:
    """Compare-and-swap on `resource.meta.version`; `uid`, `created`, `deleted` and `generation` are the store's."""
    check_fence(connection, fence)
    meta = resource.meta
    row = _row(connection, resource.kind, meta.project, meta.name)
    stored = decode(kinds, row.document, row.revision)
    _check_version(stored, meta.version, meta.uid)
    before = stored.meta
    meta.uid, meta.created, meta.deleted = before.uid, before.created, before.deleted
    meta.generation = before.generation + (1 if resource.spec != stored.spec else 0)
    resource.schema_version = stored.schema_version
    document = encode(resource)
    if meta.deleted and not meta.finalizers:
        return _remove(connection, resource, document)
    if document == encode(stored):
        return stored
    revision = _append(connection, resource, document)
    connection.execute(
        update(schema.resources)
        .where(schema.resources.c.uid == meta.uid)
        .values(revision=revision, phase=resource.phase, owner=(meta.owner or {}).get("uid"))
    )
    if meta.labels != before.labels:
        connection.execute(delete(schema.labels).where(schema.labels.c.uid == meta.uid))
        _label(connection, meta.uid, meta.labels)
    return _stored(document, revision)


def mark_deleted(
    connection: Connection,
    kinds: Kinds,
    key: tuple[str, str, str],
    version: int | None,
    fence: int | None,
    when: str,
) -> Resource | None:
    check_fence(connection, fence)
    row = _row(connection, *key)
    resource = decode(kinds, row.document, row.revision)
    if version is not None:
        _check_version(resource, version, "")
    if not resource.meta.finalizers:
        resource.meta.deleted = resource.meta.deleted or when
        _remove(connection, resource, encode(resource))
        return None
    if resource.meta.deleted:
        return resource
    resource.meta.deleted = when
    document = encode(resource)
    revision = _append(connection, resource, document)
    connection.execute(
        update(schema.resources).where(schema.resources.c.uid == resource.meta.uid).values(revision=revision)
    )
    return _stored(document, revision)


def read_changes(connection: Connection, kinds: Kinds, since: int, limit: int) -> tuple[list[Change], int]:
    """At most `limit` changes after `since`, and the latest revision. The caller compares `since` with the horizon."""
    log = schema.revisions
    rows = connection.execute(
        select(log.c.id, log.c.tombstone, log.c.document).where(log.c.id > since).order_by(log.c.id).limit(limit)
    ).all()
    changes = [
        Change("delete" if row.tombstone else "put", row.id, decode(kinds, row.document, row.id)) for row in rows
    ]
    return changes, current_revision(connection)


def _key(kind: str, project: str, name: str) -> Any:
    table = schema.resources.c
    return and_(table.kind == kind, table.project == project, table.name == name)


def _row(connection: Connection, kind: str, project: str, name: str) -> Any:
    row = connection.execute(CURRENT.where(_key(kind, project, name))).first()
    if row is None:
        where = f" in project '{project}'" if project else ""
        raise NotFound(f"There is no {kind} '{name}'{where}.", field="name")
    return row


def _check_version(stored: Resource, version: int, uid: str) -> None:
    if stored.meta.version != version or (uid and uid != stored.meta.uid):
        raise Conflict(
            f"The {stored.kind} '{stored.meta.name}' changed: its version is {stored.meta.version} now, not {version}.",
            field="meta.version",
            hint="Read it again and repeat the change.",
        )


def _append(connection: Connection, resource: Resource, document: bytes, tombstone: bool = False) -> int:
    result = connection.execute(
        insert(schema.revisions).values(
            kind=resource.kind,
            project=resource.meta.project,
            name=resource.meta.name,
            tombstone=tombstone,
            document=document,
        )
    )
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def _remove(connection: Connection, resource: Resource, document: bytes) -> Resource:
    revision = _append(connection, resource, document, tombstone=True)
    connection.execute(delete(schema.resources).where(schema.resources.c.uid == resource.meta.uid))
    connection.execute(delete(schema.labels).where(schema.labels.c.uid == resource.meta.uid))
    return _stored(document, revision)


def _label(connection: Connection, uid: str, labels: dict[str, str]) -> None:
    if labels:
        rows = [{"uid": uid, "key": key, "value": value} for key, value in labels.items()]
        connection.execute(insert(schema.labels), rows)


def _stored(document: bytes, revision: int) -> Resource:
    # Read back from what was written, so that the caller's copy shares nothing with the argument.
    content: Json = orjson.loads(document)
    content["meta"]["version"] = revision
    return Resource.from_json(content)
