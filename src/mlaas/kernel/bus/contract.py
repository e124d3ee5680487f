"""The tests that every bus passes. A bus subclasses `BusContract` with a fixture `bus`, which closes it in the end."""

import asyncio

import pytest

from mlaas.kernel.bus.base import Bus, Subscription
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.kernel.events import CloudEvent


def event(type_: str = "mlaas.task.succeeded", data: object = None) -> CloudEvent:
    return CloudEvent(type_, "/platform", data)


async def take(subscription: Subscription, number: int) -> list[CloudEvent]:
    """The next `number` events."""
    taken: list[CloudEvent] = []
    async with asyncio.timeout(30):
        async for one in subscription:
            taken.append(one)
            if len(taken) == number:
                break
    return taken


class BusContract:
    """What `mlaas.kernel.bus.base` promises."""

    @pytest.fixture
    async def bus(self) -> Bus:
        raise NotImplementedError("A bus's test class has a fixture `bus`.")

    async def test_every_subscriber_gets_every_event_whole_and_in_order(self, bus: Bus) -> None:
        subscriptions = [await bus.subscribe() for _ in range(3)]
        sent = [CloudEvent("mlaas.task.queued", "/p", {"n": n}, "t", extensions={"project": "p"}) for n in range(20)]
        for one in sent:
            await bus.publish(one)
        for subscription in subscriptions:
            assert await take(subscription, 20) == sent
            assert subscription.lost == 0

    async def test_events_from_before_the_subscription_are_not_sent(self, bus: Bus) -> None:
        await bus.publish(event(data="before"))
        subscription = await bus.subscribe()
        await bus.publish(event(data="after"))
        assert [one.data for one in await take(subscription, 1)] == ["after"]

    async def test_prefixes_end_at_dots(self, bus: Bus) -> None:
        tasks, succeeded, everything = [
            await bus.subscribe(prefix) for prefix in ("mlaas.task", "mlaas.task.succeeded", "")
        ]
        types = ["mlaas.tasks", "mlaas.task", "mlaas.task.succeeded", "mlaas.study.ended", "mlaas.task.failed"]
        for type_ in types:
            await bus.publish(event(type_))
        assert [one.type for one in await take(tasks, 3)] == ["mlaas.task", "mlaas.task.succeeded", "mlaas.task.failed"]
        assert [one.type for one in await take(succeeded, 1)] == ["mlaas.task.succeeded"]
        assert [one.type for one in await take(everything, 5)] == types

    async def test_a_slow_subscriber_loses_the_oldest_and_nobody_waits_for_it(self, bus: Bus) -> None:
        slow, fast = await bus.subscribe(size=3), await bus.subscribe(size=100)
        for number in range(10):
            await asyncio.wait_for(bus.publish(event(data=number)), 30)
        assert [one.data for one in await take(fast, 10)] == list(range(10))
        assert [one.data for one in await take(slow, 3)] == [7, 8, 9]
        assert (slow.lost, fast.lost) == (7, 0)

    async def test_a_waiting_subscriber_wakes(self, bus: Bus) -> None:
        subscription = await bus.subscribe()
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0)
        await bus.publish(event(data="news"))
        assert [one.data for one in await waiting] == ["news"]

    async def test_close_ends_the_iteration(self, bus: Bus) -> None:
        subscription, other = await bus.subscribe(), await bus.subscribe()
        waiting = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0)
        await subscription.close()
        await subscription.close()
        assert await waiting == []
        await bus.publish(event())
        assert len(await take(other, 1)) == 1

    async def test_a_closed_bus_takes_nothing(self, bus: Bus) -> None:
        subscription = await bus.subscribe()
        await bus.close()
        assert await take(subscription, 1) == []
        with pytest.raises(Unavailable):
            await bus.publish(event())
        with pytest.raises(Unavailable):
            await bus.subscribe()

    async def test_a_queue_holds_at_least_one(self, bus: Bus) -> None:
        with pytest.raises(Invalid):
            await bus.subscribe(size=0)
