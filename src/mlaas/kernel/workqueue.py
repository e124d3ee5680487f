"""A queue of keys with due times, each key at most once: the one the reconcile loop works from."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to work on. A key that is being worked on is handed out again only after `done`. For one event loop."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []  # may hold outdated entries: `_due` decides
        self._order = itertools.count()  # keys that are due at once come in the order they were added
        self._working: set[K] = set()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        """How many wait, due or not."""
        return len(self._due)

    def add(self, key: K, after: float = 0.0) -> None:
        """Have `key` worked on in `after` seconds, or earlier if it is due earlier already."""
        when = time.monotonic() + max(after, 0.0)
        if when < self._due.get(key, float("inf")):
            self._due[key] = when
            if key not in self._working:
                self._push(when, key)

    def drop(self, key: K) -> None:
        """Forget that `key` waits."""
        self._due.pop(key, None)

    async def get(self) -> K:
        """The next key that is due, as soon as one is. For one caller."""
        while True:
            self._wake.clear()
            wait: float | None = None
            while self._heap:
                when, _, key = self._heap[0]
                if self._due.get(key) != when or key in self._working:
                    heapq.heappop(self._heap)
                    continue
                wait = when - time.monotonic()
                if wait > 0:
                    break
                heapq.heappop(self._heap)
                del self._due[key]
                self._working.add(key)
                return key
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                pass

    def done(self, key: K) -> None:
        """The work on `key` that `get` began is over."""
        self._working.discard(key)
        if key in self._due:
            self._push(self._due[key], key)

    def _push(self, when: float, key: K) -> None:
        heapq.heappush(self._heap, (when, next(self._order), key))
        self._wake.set()
