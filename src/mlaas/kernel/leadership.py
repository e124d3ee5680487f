"""Holding the store's lease: who leads, and for how long that is certain."""

import asyncio
import logging
import time
from contextlib import suppress

from mlaas.kernel.errors import Error
from mlaas.kernel.store.base import Lease, Leases

log = logging.getLogger(__name__)

_MARGIN = 0.1
"""Part of the ttl, at its end, in which the holder no longer trusts its lease."""


def clock() -> float:
    """Seconds that go on while the process is stopped and while the machine sleeps (CLOCK_BOOTTIME; clock_gettime(2))."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boottime) if boottime is not None else time.monotonic()


class Leadership:
    """Acquires the lease, renews it each third of its ttl, and knows when it can no longer be relied on."""

    def __init__(self, leases: Leases, holder: str, ttl: float) -> None:
        self._leases = leases
        self._holder = holder
        self._ttl = ttl
        self._lease: Lease | None = None
        self._until = 0.0
        self._lost = asyncio.Event()
        self.epoch = 0
        """Of the last lease that was held: a writer that missed its loss is refused by it. 0: none yet."""

    @property
    def certain(self) -> bool:
        """Is the lease surely still this holder's?"""
        return self._lease is not None and not self._lost.is_set() and clock() < self._until

    async def acquire(self) -> None:
        """Return once the lease is held, however long that takes."""
        told = ""
        while True:
            asked = clock()
            try:
                lease = await self._leases.acquire(self._holder, self._ttl)
                reason = "another platform leads"
            except Error as error:
                lease, reason = None, error.message
            if lease is not None:
                self._lease, self.epoch = lease, lease.epoch
                self._until = asked + self._ttl * (1 - _MARGIN)
                self._lost.clear()
                log.info("acts on what is asked from now on (leader '%s', epoch %d)", self._holder, lease.epoch)
                return
            if reason != told:
                log.info("waiting for the lease: %s", reason)
                told = reason
            await asyncio.sleep(min(self._ttl / 3, 1.0))

    def lose(self) -> None:
        """The store said that the lease is another's."""
        self._lost.set()

    async def hold(self) -> None:
        """Renew until the lease is lost or no longer certain; then return."""
        lease = self._lease
        assert lease is not None, "acquire comes first"
        while True:
            pause = min(self._ttl / 3, self._until - clock())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), max(pause, 0))
            if not self.certain:
                log.warning("'%s' no longer leads (epoch %d)", self._holder, lease.epoch)
                self._lost.set()
                return
            asked = clock()
            try:
                async with asyncio.timeout(self._until - asked):
                    renewed = await self._leases.renew(lease)
            except (Error, TimeoutError) as error:
                log.warning("the lease could not be renewed: %s", error)
                await asyncio.sleep(min(self._ttl / 30, 1.0))
                continue
            if renewed:
                self._until = asked + self._ttl * (1 - _MARGIN)
            else:
                self._lost.set()

    async def release(self) -> None:
        """Give it back, if it is held, so that the next one need not wait."""
        lease, self._lease = self._lease, None
        if lease is not None and not self._lost.is_set():
            with suppress(Error):
                await self._leases.release(lease)
