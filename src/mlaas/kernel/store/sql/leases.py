"""The leader's lease and the fence of its writes, as functions over one open transaction."""

from sqlalchemy import Connection, insert, select, update

from mlaas.kernel.errors import Fenced
from mlaas.kernel.store.base import Lease
from mlaas.kernel.store.sql import schema

_LEADER = "leader"
_row = schema.leases.c


def check_fence(connection: Connection, fence: int | None) -> None:
    """Raises Fenced when a later epoch than `fence` was given out. Read in the transaction of the write it protects."""
    if fence is None:
        return
    epoch = connection.scalar(select(_row.epoch).where(_row.name == _LEADER)) or 0
    if fence < epoch:
        raise Fenced(
            f"This write was made under lease epoch {fence}, but epoch {epoch} leads now.",
            hint="Another platform took over: stop acting, and acquire the lease again.",
        )


def acquire(connection: Connection, holder: str, ttl: float, time: float) -> Lease | None:
    row = connection.execute(select(schema.leases).where(_row.name == _LEADER)).first()
    if row is None:
        connection.execute(insert(schema.leases).values(name=_LEADER, holder=holder, epoch=1, expires=time + ttl))
        return Lease(holder, 1, ttl)
    if row.holder not in ("", holder) and row.expires > time:
        return None
    epoch = row.epoch + 1
    connection.execute(
        update(schema.leases).where(_row.name == _LEADER).values(holder=holder, epoch=epoch, expires=time + ttl)
    )
    return Lease(holder, epoch, ttl)


def renew(connection: Connection, lease: Lease, time: float) -> bool:
    return _hold(connection, lease, lease.holder, time + lease.ttl)


def release(connection: Connection, lease: Lease) -> None:
    _hold(connection, lease, "", 0.0)


def _hold(connection: Connection, lease: Lease, holder: str, expires: float) -> bool:
    result = connection.execute(
        update(schema.leases)
        .where(_row.name == _LEADER, _row.epoch == lease.epoch, _row.holder == lease.holder)
        .values(holder=holder, expires=expires)
    )
    return bool(result.rowcount)
