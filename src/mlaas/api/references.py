"""Which blobs a project's resources refer to: a blob is readable only through a resource that the caller may read."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from mlaas.kernel.blobs.tree import decode, is_tree
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error
from mlaas.kernel.housekeeping import hashes
from mlaas.kernel.store.base import Query

FRESH = 30.0
"""Seconds for which a reference that was found is believed although something was written since."""
_TREES = 4096
_MANIFEST = 64 << 20


@dataclass(slots=True)
class _Known:
    revision: int
    time: float
    roots: frozenset[str]


class References:
    """Hashes in the status of a project's resources, and those inside the trees among them; remembered by revision."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._known: dict[str, _Known] = {}
        self._trees: OrderedDict[str, frozenset[str]] = OrderedDict()

    async def holds(self, project: str, digest: str) -> bool:
        """Whether a resource of `project` refers to the blob `digest`, directly or through a tree."""
        known = self._known.get(project)
        if known is not None and time.monotonic() - known.time < FRESH and await self._in(known.roots, digest):
            return True
        revision = await self.context.database.revision()
        if known is None or known.revision != revision:
            known = self._known[project] = await self._read(project)
            return await self._in(known.roots, digest)
        known.time = time.monotonic()
        return await self._in(known.roots, digest)

    async def _read(self, project: str) -> _Known:
        roots: set[str] = set()
        after: str | None = None
        revision: int | None = None
        while True:
            page = await self.context.database.list(Query(projects=frozenset({project}), limit=500, after=after))
            revision = page.revision if revision is None else revision
            for resource in page.items:
                roots.update(hashes(resource.status))
            after = page.next
            if after is None:
                return _Known(revision, time.monotonic(), frozenset(roots))

    async def _in(self, roots: frozenset[str], digest: str) -> bool:
        if digest in roots:
            return True
        for root in roots:
            if digest in await self._tree(root):
                return True
        return False

    async def _tree(self, digest: str) -> frozenset[str]:
        """The hashes of a tree's files; none for a plain blob. What a hash stands for never changes."""
        found = self._trees.get(digest)
        if found is None:
            try:
                found = await run_in_threadpool(self._files, digest)
            except Error:
                return frozenset()  # not in this store, for example a commit of a hub
            self._trees[digest] = found
            if len(self._trees) > _TREES:
                self._trees.popitem(last=False)
        else:
            self._trees.move_to_end(digest)
        return found

    def _files(self, digest: str) -> frozenset[str]:
        blobs = self.context.blobs
        if (blobs.size(digest) or 0) > _MANIFEST or not is_tree(blobs, digest):
            return frozenset()
        return frozenset(entry.hash for entry in decode(blobs.get(digest)))
