"""Read models fed by the store's changes: an index, counts, a graph. Deletable at any time, since they can be rebuilt."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence

from mlaas.kernel.errors import Compacted, Error
from mlaas.kernel.store.base import Change, Database, Query

log = logging.getLogger(__name__)

BATCH = 500


class Projection(ABC):
    """What one read model does with changes. `follow` feeds it."""

    name: str

    @abstractmethod
    async def reached(self) -> int:
        """The revision up to which all changes are in; 0: nothing is, it wants to be built."""

    @abstractmethod
    async def apply(self, changes: Sequence[Change], revision: int) -> None:
        """Take in these puts and deletes, and with them `revision`, in one step or so that it can be repeated.

        Changes may come again, and a delete for what was never put. `revision` 0 means: built in part.
        """

    @abstractmethod
    async def clear(self) -> None:
        """Forget everything; `reached` is 0 then."""


async def follow(database: Database, projection: Projection, *, forever: bool = True) -> None:
    """Build `projection` if need be and keep it up to date until cancelled; with `forever` off, until it is up to date."""
    compacted = False
    while True:
        try:
            since = 0 if compacted else await projection.reached()
            compacted = False
            if since == 0:
                since = await _build(database, projection)
            await _feed(database, projection, since, forever)
            return
        except Compacted:
            log.info("%s: the changes are compacted, building anew", projection.name)
            compacted = True
        except Error as error:
            if not forever:
                raise
            log.warning("%s: %s", projection.name, error.message)
            await asyncio.sleep(1.0)


async def _build(database: Database, projection: Projection) -> int:
    """Put in all that exists. What changes meanwhile comes again with the changes since the returned revision."""
    await projection.clear()
    since = await database.revision()
    after: str | None = None
    while True:
        page = await database.list(Query(order="created", limit=BATCH, after=after))
        changes = [Change("put", item.meta.version, item) for item in page.items]
        after = page.next
        await projection.apply(changes, 0 if after else since)
        if after is None:
            return since


async def _feed(database: Database, projection: Projection, since: int, forever: bool) -> None:
    batch: list[Change] = []
    async for change in database.changes(since, follow=forever):
        if change.type != "bookmark":
            batch.append(change)
        if batch and (change.type == "bookmark" or len(batch) == BATCH):
            await projection.apply(batch, change.revision)
            batch = []
