"""What the leader does now and then: forget old revisions, points and events, sweep blobs that nothing refers to."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlaas.kernel.blobs.sweep import sweep
from mlaas.kernel.blobs.upload import Uploads
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error
from mlaas.kernel.store.base import Query

log = logging.getLogger(__name__)

EVERY = 300.0
SWEEP_EVERY = 3600.0
KEPT_REVISIONS = 50_000
POINTS_AGE, POINTS_PER_OWNER, EVENTS_AGE = 90 * 86400.0, 200_000, 14 * 86400.0
BLOB_AGE = 86400.0
"""Seconds after its last put when a blob that nothing refers to may go: far longer than a commit takes."""
_HASH = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"blobs:([0-9a-f]{64})")


async def keep_house(context: Context, leading: Callable[[], bool]) -> None:
    """Tidy for ever, while this platform leads. A failure is logged and tried again."""
    swept = time.monotonic()
    while True:
        await asyncio.sleep(EVERY)
        if not leading():
            continue
        try:
            await forget(context)
            if time.monotonic() - swept >= SWEEP_EVERY:
                swept = time.monotonic()
                await sweep_blobs(context, time.time() - BLOB_AGE)
                await asyncio.to_thread(expire_uploads, context, time.time() - BLOB_AGE)
        except Error as error:
            log.warning("housekeeping: %s", error.message)


async def forget(context: Context) -> None:
    """Drop superseded revisions, old points and old events."""
    database = context.database
    await database.compact(await database.revision() - KEPT_REVISIONS)
    await database.trim(points_age=POINTS_AGE, points_per_owner=POINTS_PER_OWNER, events_age=EVENTS_AGE)


async def sweep_blobs(context: Context, older_than: float) -> int:
    """Remove blobs that no resource refers to and that were put before `older_than` (seconds since the epoch); how many.

    It cannot race a commit when `older_than` lies well before now: see `kernel.blobs.sweep`.
    """
    references: set[str] = set()
    after: str | None = None
    while True:
        page = await context.database.list(Query(order="created", limit=500, after=after))
        for resource in page.items:
            references.update(hashes(resource.spec), hashes(resource.status))
        after = page.next
        if after is None:
            break
    gone = await asyncio.to_thread(sweep, context.blobs, references, older_than)
    if gone:
        log.info("%d blobs that nothing refers to are gone", gone)
    return gone


def expire_uploads(context: Context, older_than: float) -> None:
    """Forget uploads that have not moved since `older_than` (seconds since the epoch)."""
    for folder in (context.settings.data / "uploads").glob("*"):
        Uploads(folder, context.blobs).expire(older_than)  # type: ignore[arg-type]


def hashes(document: Any) -> Iterator[str]:
    """Every content hash that a spec or a status names: under a key `hash`, or as an address `blobs:HASH`."""
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            found = value.get("hash")
            if isinstance(found, str) and _HASH.fullmatch(found):
                yield found
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, str) and (address := _ADDRESS.fullmatch(value)):
            yield address[1]
