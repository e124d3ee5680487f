"""The bus inside one process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from mlaas.kernel.bus.base import Bus, Subscription
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.kernel.events import CloudEvent


class EmbeddedSubscription(Subscription):
    def __init__(self, bus: "EmbeddedBus", prefix: str, size: int) -> None:
        self._bus = bus
        self._prefix = prefix
        self._queue: deque[CloudEvent] = deque(maxlen=size)
        self._news = asyncio.Event()
        self._closed = False
        self.lost = 0

    def offer(self, event: CloudEvent) -> None:
        if self._prefix and event.type != self._prefix and not event.type.startswith(self._prefix + "."):
            return
        self.lost += len(self._queue) == self._queue.maxlen
        self._queue.append(event)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[CloudEvent]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        self._closed = True
        self._queue.clear()
        self._news.set()
        self._bus.leave(self)


class EmbeddedBus(Bus):
    """For one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[EmbeddedSubscription, None] = {}
        self._closed = False

    async def publish(self, event: CloudEvent) -> None:
        self._check()
        for subscription in self._subscriptions:
            subscription.offer(event)

    async def subscribe(self, prefix: str = "", size: int = 1000) -> Subscription:
        self._check()
        if size < 1:
            raise Invalid(f"A subscription of {size} events holds none.", field="size")
        subscription = EmbeddedSubscription(self, prefix, size)
        self._subscriptions[subscription] = None
        return subscription

    async def close(self) -> None:
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()

    def leave(self, subscription: EmbeddedSubscription) -> None:
        self._subscriptions.pop(subscription, None)

    def _check(self) -> None:
        if self._closed:
            raise Unavailable("The bus is closed.", hint="The platform is stopping.")
