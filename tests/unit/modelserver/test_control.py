import asyncio
import gc
import time
import weakref
from collections.abc import Callable

import pytest
from tests.unit.modelserver.models import Shelf, Slow, answer, rows, times

from mlaas.kernel.errors import Forbidden, Invalid, NotFound
from mlaas.modelserver import control
from mlaas.modelserver.control import Controller
from mlaas.modelserver.errors import NotReady
from mlaas.modelserver.repository import Repository
from mlaas.modelserver.table import Batcher, Canary, Deployment, Node, Rollout, Scaling, Service, Step, Table


def service(name: str, source: str, least: int = 1, **more: object) -> Service:
    deployment = Deployment(revision=source, source=source)
    return Service(name=name, predictor=deployment, scaling=Scaling(min_replicas=least, idle_timeout=0.2), **more)  # type: ignore[arg-type]


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.made = {"a": lambda: times(2), "b": lambda: times(3)}
    return shelf


async def value(controller: Controller, name: str, number: float = 1, version: str = "") -> float:
    predictor = controller.repository.find("default", name).version(version).ready()
    if (waiting := predictor.wake()) is not None:
        await waiting
    return (await answer(predictor, rows(number)))[0]


async def test_what_is_in_the_table_is_served_and_what_is_not_is_gone(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("one", "a"), service("two", "b")]))
    await controller.settled()
    assert (await value(controller, "one"), await value(controller, "two")) == (2.0, 3.0)
    controller.apply(Table(services=[service("two", "b")]))
    await controller.settled()
    with pytest.raises(NotFound):
        controller.repository.find("default", "one")
    assert shelf.loads == ["a", "b"]  # the one that stayed was left alone


async def test_a_new_version_answers_only_once_it_is_loaded(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "a")]))
    await controller.settled()
    shelf.gate.clear()
    controller.apply(Table(services=[service("m", "b")]))
    await asyncio.sleep(0.01)
    assert await value(controller, "m") == 2.0
    shelf.gate.set()
    await controller.settled()
    assert await value(controller, "m") == 3.0


async def test_a_new_version_that_does_not_load_leaves_the_old_one_answering(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "a")]))
    await controller.settled()
    controller.apply(Table(services=[service("m", "missing")]))
    await controller.settled()
    assert await value(controller, "m") == 2.0
    status = controller.status()["services"][0]
    assert "does not load" in status["problem"]
    assert "There is no folder missing. Is it mounted?" in status["problem"]
    controller.apply(Table(services=[service("m", "b")]))  # and the repair takes over
    await controller.settled()
    assert await value(controller, "m") == 3.0
    assert "problem" not in controller.status()["services"][0]


async def test_a_first_version_that_does_not_load_says_why_and_when_it_is_tried_again(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "missing", least=0)]))
    predictor = controller.repository.find("default", "m").version().ready()
    with pytest.raises(Invalid, match="no folder missing"):
        await predictor.wake()  # type: ignore[misc]
    with pytest.raises(NotReady, match="not ready: There is no folder missing"):
        controller.repository.find("default", "m").version().ready()
    loads = len(shelf.loads)
    with pytest.raises(NotReady, match="could not be loaded") as refused:
        await predictor.wake()  # type: ignore[misc]
    assert refused.value.retry_after >= 1
    assert len(shelf.loads) == loads


async def test_a_model_at_zero_is_loaded_by_its_first_requests_once_and_unloaded_when_idle(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.start()
    controller.apply(Table(services=[service("m", "a", least=0)]))
    await controller.settled()
    assert shelf.loads == []
    served = controller.repository.find("default", "m").version()
    assert served.state == "READY"
    assert await asyncio.gather(*(value(controller, "m", n) for n in range(20))) == [2.0 * n for n in range(20)]
    assert shelf.loads == ["a"]
    until = time.monotonic() + 10
    while controller.status()["services"][0]["units"][0]["phase"] != "Cold":
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    assert await value(controller, "m") == 2.0
    assert shelf.loads == ["a", "a"]
    await controller.close()


class Pool(Slow):
    """Has as many workers as it was told last."""

    replicas = 0

    def resize(self, replicas: int) -> None:
        self.replicas = replicas


async def passes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_nothing_is_left_of_a_service_that_was_scaled_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_TICK", 0.01)
    shelf, pools = Shelf(), [Pool() for _ in range(3)]
    shelf.made = {f"p{place}": lambda pool=pool: pool for place, pool in enumerate(pools)}  # type: ignore[misc]
    controller = Controller(Repository(), shelf)
    controller.start()
    controller.apply(Table(services=[service(f"m{place}", f"p{place}") for place in range(3)]))
    await passes(lambda: all(pool.replicas == 1 for pool in pools))
    gone = [weakref.ref(unit) for each in controller._assemblies.values() for unit in each.units]
    controller.apply(Table())
    await controller.settled()
    await passes(lambda: all(pool.closed for pool in pools))
    gc.collect()
    assert [unit() for unit in gone] == [None] * 3
    await controller.close()


async def test_other_limits_of_a_service_that_stays_are_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_TICK", 0.01)
    shelf, pool = Shelf(), Pool()
    shelf.made = {"p": lambda: pool}
    controller = Controller(Repository(), shelf)
    controller.start()
    for least in (2, 4, 1):
        scaling = Scaling(min_replicas=least, max_replicas=least)
        service = Service(name="m", predictor=Deployment(revision="p", source="p"), scaling=scaling)
        controller.apply(Table(services=[service]))
        await passes(lambda least=least: pool.replicas == least)  # type: ignore[misc]
    assert shelf.loads == ["p"]
    await controller.close()


async def test_the_memory_budget_unloads_the_least_recently_used() -> None:
    shelf = Shelf()
    shelf.made = {str(n): lambda n=n: times(n, size=100) for n in range(10)}  # type: ignore[misc]
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service(f"m{n}", str(n), least=0) for n in range(10)], memory=300))
    for n in (0, 1, 2, 0, 3):
        assert await value(controller, f"m{n}") == n
        await asyncio.sleep(0.001)
    loaded = [
        unit["revision"]
        for each in controller.status()["services"]
        for unit in each["units"]
        if unit["phase"] == "Ready"
    ]
    assert loaded == ["0", "2", "3"]
    assert controller.status()["memory"]["used"] == 300


async def test_a_model_at_work_is_not_unloaded_before_it_has_answered() -> None:
    shelf = Shelf()
    slow = Slow(7)
    shelf.made = {"slow": lambda: slow, "a": lambda: times(2)}
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("slow", "slow", least=0), service("m", "a", least=0)], memory=150))
    asked = asyncio.ensure_future(value(controller, "slow"))
    await asyncio.sleep(0.01)
    removed = asyncio.ensure_future(controller.unload("default", "slow"))
    await asyncio.sleep(0.01)
    assert not slow.closed
    slow.release.set()
    assert await asked == 7.0
    await removed
    assert slow.closed


async def test_a_removed_service_finishes_its_requests() -> None:
    shelf = Shelf()
    slow = Slow(7)
    shelf.made = {"slow": lambda: slow}
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "slow")]))
    await controller.settled()
    asked = asyncio.ensure_future(value(controller, "m"))
    await asyncio.sleep(0.01)
    controller.apply(Table())
    await asyncio.sleep(0.01)
    assert not slow.closed
    slow.release.set()
    assert await asked == 7.0
    await controller.settled()
    assert slow.closed


async def test_clients_load_and_unload_unless_somebody_reconciles(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "a")]))
    await controller.settled()
    await controller.unload("default", "m")
    with pytest.raises(NotReady, match="unloaded"):
        await value(controller, "m")
    await controller.load("default", "m")
    assert await value(controller, "m") == 2.0
    await controller.load("default", "new", Deployment(revision="b", source="b"))
    assert await value(controller, "new") == 3.0
    controller.apply(Table(services=[service("m", "a")], controlled=True))
    with pytest.raises(Forbidden, match="change the service 'm'"):
        await controller.unload("default", "m")


async def test_a_model_whose_service_changed_around_it_still_shows_its_state(shelf: Shelf) -> None:
    """The unit is kept, so it must tell the chain that answers now."""
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("m", "a")]))
    await controller.settled()
    await controller.load("default", "m", batcher=Batcher(max_batch_size=4))
    assert controller.repository.find("default", "m").max_batch_size == 4
    assert shelf.loads == ["a"]
    await controller.unload("default", "m")
    assert controller.repository.find("default", "m").version().state == "UNAVAILABLE"
    await controller.load("default", "m")
    assert controller.repository.find("default", "m").version().state == "READY"
    assert await value(controller, "m") == 2.0
    assert shelf.loads == ["a", "a"]


async def test_a_canary_is_reached_by_share_and_by_version(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    rollout = Rollout(
        canary=[Canary(name="next", traffic_percent=0, predictor=Deployment(revision="b", source="b", version="2"))]
    )
    controller.apply(Table(services=[service("m", "a", rollout=rollout)]))
    await controller.settled()
    assert await value(controller, "m") == 2.0
    assert await value(controller, "m", version="2") == 3.0
    traffic = controller.status()["services"][0]["traffic"]
    assert [(each["revision"], each["percent"]) for each in traffic] == [("a", 0), ("b", 0)]


async def test_a_graph_calls_services_of_its_project(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    sequence = Node(router="Sequence", steps=[Step(service="one"), Step(service="two", data="$request")])
    graph = Service(name="both", graph={"root": sequence})
    controller.apply(Table(services=[service("one", "a"), service("two", "b"), graph]))
    await controller.settled()
    assert await value(controller, "both", 5) == 15.0


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ([Service(name="m")], "either a predictor or a graph"),
        ([service("m", "a"), service("m", "b")], "twice"),
        ([Service(name="g", graph={"start": Node(router="Sequence", steps=[])})], "node 'root'"),
        ([Service(name="g", graph={"root": Node(router="Sequence", steps=[Step(node="no")])})], "no node 'no'"),
        (
            [Service(name="g", graph={"root": Node(router="Splitter", steps=[Step(service="a", weight=90)])})],
            "sum up to 100",
        ),
    ],
)
async def test_a_table_that_contradicts_itself_changes_nothing(
    shelf: Shelf, services: list[Service], words: str
) -> None:
    controller = Controller(Repository(), shelf)
    controller.apply(Table(services=[service("kept", "a")]))
    await controller.settled()
    with pytest.raises(Invalid, match=words):
        controller.apply(Table(services=services))
    assert await value(controller, "kept") == 2.0


async def test_what_failed_to_load_is_tried_again_until_it_works(shelf: Shelf) -> None:
    controller = Controller(Repository(), shelf)
    controller.start()
    controller.apply(Table(services=[service("m", "a")]))
    await controller.settled()
    controller.apply(Table(services=[service("m", "late")]))
    await controller.settled()
    assert await value(controller, "m") == 2.0
    shelf.made["late"] = lambda: times(9)
    until = time.monotonic() + 10
    while await value(controller, "m") != 9.0:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    await controller.close()
