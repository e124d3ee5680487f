"""The bus carries CloudEvents: hints for reconcilers and news for the world. Loss is allowed, and counted.

Nothing depends on an event's arrival: reconcilers also read the store.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from mlaas.kernel.events import CloudEvent


class Subscription(ABC):
    """A bounded queue of the events whose type begins with a prefix. Iterate over it; `close` ends the iteration."""

    lost: int
    """How many events this subscriber did not get because it was too slow: the oldest go first."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[CloudEvent]: ...

    @abstractmethod
    async def close(self) -> None:
        """What is queued is forgotten. Repeating it changes nothing."""


class Bus(ABC):
    """Publish and subscribe. Events of one publisher arrive in their order, each at most once for each subscriber."""

    @abstractmethod
    async def publish(self, event: CloudEvent) -> None:
        """Hand it to whoever listens now. Never waits for a subscriber. Raises Unavailable when the bus is closed."""

    @abstractmethod
    async def subscribe(self, prefix: str = "", size: int = 1000) -> Subscription:
        """Events from now on whose type is `prefix` or begins with it and a dot; "" is all of them.

        `size` is how many may wait. Raises Invalid when it is less than 1, Unavailable when the bus is closed.
        """

    @abstractmethod
    async def close(self) -> None:
        """End all subscriptions."""
