"""Waking those who follow the changes: at once for writes of this process, by polling for those of others."""

import asyncio
from collections.abc import Awaitable, Callable

POLL = 1.0
"""Seconds between two looks for writes of other processes."""


class Feed:
    """One poller for all followers; it runs only while there are some."""

    def __init__(self, revision: Callable[[], Awaitable[int]]) -> None:
        self._revision = revision
        self._followers: set[asyncio.Event] = set()
        self._poller: asyncio.Task[None] | None = None
        self.closed = False

    def follow(self) -> asyncio.Event:
        """An event that is set when there may be something new. Give it back with `leave`."""
        follower = asyncio.Event()
        self._followers.add(follower)
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="store-poller")
        return follower

    def leave(self, follower: asyncio.Event) -> None:
        self._followers.discard(follower)
        if not self._followers and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def wake(self) -> None:
        for follower in self._followers:
            follower.set()

    async def close(self) -> None:
        self.closed = True
        self.wake()
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)

    async def _poll(self) -> None:
        seen = -1
        while True:
            await asyncio.sleep(POLL)
            try:
                latest = await self._revision()
            except Exception:
                # The followers meet the same failure when they read, and say it where it can be handled.
                self.wake()
                continue
            if latest != seen:
                seen = latest
                self.wake()
