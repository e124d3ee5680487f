"""Lists: filters, order, and pages by keyset, which neither skip nor repeat a row that stays while others come and go."""

import base64
import binascii
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Select, exists, func, select, tuple_

from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import Kinds
from mlaas.kernel.store.base import Page, Query
from mlaas.kernel.store.sql import schema
from mlaas.kernel.store.sql.resources import CURRENT, current_revision, decode

_table = schema.resources.c
_NAME = (_table.name, _table.project, _table.kind)


def page(connection: Connection, kinds: Kinds, query: Query) -> Page:
    """One page and the revision it is true at: both are read in the caller's one snapshot."""
    if query.limit is not None and query.limit < 1:
        raise Invalid(f"limit is {query.limit}, which is less than 1.", field="limit")
    statement = _ordered(_filtered(CURRENT.add_columns(*_NAME), query), query)
    if query.limit is not None:
        statement = statement.limit(query.limit + 1)
    rows = connection.execute(statement).all()
    more = query.limit is not None and len(rows) > query.limit
    if more:
        rows = rows[: query.limit]
    return Page(
        items=[decode(kinds, row.document, row.revision) for row in rows],
        revision=current_revision(connection),
        next=_token(query, rows[-1]) if more else None,
    )


def count(connection: Connection, query: Query) -> dict[str, int]:
    """How many by phase, in order of the phases' names."""
    statement = _filtered(select(_table.phase, func.count()), query).group_by(_table.phase).order_by(_table.phase)
    return {row[0]: row[1] for row in connection.execute(statement)}


def _filtered(statement: Select[Any], query: Query) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if query.kind is not None:
        conditions.append(_table.kind == query.kind)
    if query.projects is not None:  # an empty set is no project at all, not all of them
        conditions.append(_table.project.in_(sorted(query.projects)))
    if query.prefix:
        conditions.append(func.substr(_table.name, 1, len(query.prefix)) == query.prefix)
    if query.owner is not None:
        conditions.append(_table.owner == query.owner)
    if query.uid is not None:
        conditions.append(_table.uid == query.uid)
    if query.phases:
        conditions.append(_table.phase.in_(sorted(query.phases)))
    for key, value in query.labels.items():
        label = schema.labels.c
        conditions.append(exists().where(label.uid == _table.uid, label.key == key, label.value == value))
    return statement.where(*conditions)


def _ordered(statement: Select[Any], query: Query) -> Select[Any]:
    after = _position(query)
    if query.order == "name":
        if after is not None:
            statement = statement.where(tuple_(*_NAME) > tuple_(*after))
        return statement.order_by(*_NAME)
    if query.order == "created":
        if after is not None:
            statement = statement.where(_table.born > after[0])
        return statement.order_by(_table.born)
    if query.order == "-created":
        if after is not None:
            statement = statement.where(_table.born < after[0])
        return statement.order_by(_table.born.desc())
    raise Invalid(f"Lists have no order '{query.order}'.", field="order", hint="Use created, -created or name.")


def _token(query: Query, row: Any) -> str:
    position = [row.name, row.project, row.kind] if query.order == "name" else [row.born]
    return base64.urlsafe_b64encode(orjson.dumps([query.order, *position])).decode().rstrip("=")


def _position(query: Query) -> list[Any] | None:
    """The sort key of the last row of the page before. Raises Invalid for anything that `_token` did not make."""
    if query.after is None:
        return None
    try:
        content = orjson.loads(base64.b64decode(query.after + "=" * (-len(query.after) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error):
        content = None
    wanted = [str, str, str, str] if query.order == "name" else [str, int]
    if (
        not isinstance(content, list)
        or [type(part) for part in content] != wanted
        or content[0] != query.order
        or not all(-(2**63) <= part < 2**63 for part in content if isinstance(part, int))
    ):
        raise Invalid(
            "The page token is not one that this list gave.",
            field="after",
            hint="Use the `next` of the page before, with the same order; leave it out for the first page.",
        )
    return content[1:]
