"""Tokens, as functions over one open transaction."""

from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from mlaas.kernel.errors import Exists, NotFound
from mlaas.kernel.store.base import Token
from mlaas.kernel.store.sql import schema

_row = schema.tokens.c


def add(connection: Connection, token: Token) -> None:
    if connection.scalar(select(_row.name).where(_row.name == token.name)) is not None:
        raise Exists(
            f"There is a token '{token.name}' already.", field="name", hint="Choose another name, or revoke it."
        )
    connection.execute(
        insert(schema.tokens).values(
            digest=token.digest,
            name=token.name,
            role=token.role,
            projects=None if token.projects is None else orjson.dumps(sorted(token.projects)),
            created=token.created,
            expires=token.expires,
            workload=token.workload,
            inputs=orjson.dumps(sorted(token.inputs)),
            service=token.service,
            lifetime=token.lifetime,
        )
    )


def find(connection: Connection, digest: str) -> Token | None:
    row = connection.execute(select(schema.tokens).where(_row.digest == digest)).first()
    return None if row is None else _token(row)


def read(connection: Connection) -> list[Token]:
    return [_token(row) for row in connection.execute(select(schema.tokens).order_by(_row.name))]


def prolong(connection: Connection, digest: str, expires: float) -> Token:
    connection.execute(update(schema.tokens).where(_row.digest == digest).values(expires=expires))
    token = find(connection, digest)
    if token is None:
        raise NotFound("The token was revoked meanwhile.")
    return token


def remove(connection: Connection, name: str) -> None:
    if not connection.execute(delete(schema.tokens).where(_row.name == name)).rowcount:
        raise NotFound(f"There is no token '{name}'.", field="name")


def _token(row: Any) -> Token:
    return Token(
        digest=row.digest,
        name=row.name,
        role=row.role,
        projects=None if row.projects is None else frozenset(orjson.loads(row.projects)),
        created=row.created,
        expires=row.expires,
        workload=row.workload,
        inputs=frozenset(orjson.loads(row.inputs)),
        service=row.service,
        lifetime=row.lifetime,
    )
