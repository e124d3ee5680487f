import asyncio

import pytest
from tests.unit.modelserver.models import SIGNATURE, Slow, answer, rows, times

from mlaas.kernel.errors import NotFound
from mlaas.modelserver.errors import Failed
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.wrap.canary import Canary, Side, share
from mlaas.modelserver.wrap.shadow import Shadow


def named(value: float, id: str = "", **headers: str) -> Request:
    request = rows(value)
    request.id, request.headers = id, {name.replace("_", "-"): text for name, text in headers.items()}
    return request


def side(revision: str, predictor: Predictor, weight: float = 0, window: float = 60) -> Side:
    return Side(revision, revision, predictor, weight, window)


async def test_the_split_is_a_function_of_the_request_id_and_close_to_the_weight() -> None:
    canary = Canary(side("stable", times(1)), [side("new", times(2), 20)])
    answers = {str(n): (await answer(canary, named(1, str(n))))[0] for n in range(2000)}
    assert 0.17 < sum(value == 2.0 for value in answers.values()) / 2000 < 0.23
    again = Canary(side("stable", times(1)), [side("new", times(2), 20)])
    assert [(await answer(again, named(1, key)))[0] for key in answers] == list(answers.values())


def test_shares_are_uniform() -> None:
    values = [share(f"request-{n}") for n in range(5000)]
    assert all(0 <= value < 100 for value in values)
    assert all(440 < sum(low <= value < low + 10 for value in values) < 560 for low in range(0, 100, 10))


async def test_a_sticky_header_keeps_a_caller_on_one_side() -> None:
    canary = Canary(side("stable", times(1)), [side("new", times(2), 50)], sticky_header="X-User")
    for user in "abcdefgh":
        found = {(await answer(canary, named(1, str(n), x_user=user)))[0] for n in range(20)}
        assert len(found) == 1


async def test_a_dark_launch_is_reached_by_its_header_only() -> None:
    canary = Canary(side("stable", times(1)), [side("dark", times(5), 0)])
    assert {(await answer(canary, named(1, str(n))))[0] for n in range(300)} == {1.0}
    response = canary.infer(named(1, mlaas_revision="dark"))
    assert isinstance(response, Response)
    assert (response.outputs[0].array[0], response.version) == (5.0, "dark")
    with pytest.raises(NotFound, match="no revision 'nope'"):
        canary.infer(named(1, mlaas_revision="nope"))


class Failing(Predictor):
    signature = SIGNATURE

    def infer(self, request: Request) -> Response:
        raise Failed("It broke.")


async def test_a_canary_that_fails_is_aborted_and_says_why() -> None:
    canary = Canary(
        side("stable", times(1)), [side("new", Failing(), 50)], abort={"error_rate": 0.1, "min_requests": 10}
    )
    failures = 0
    for n in range(400):
        try:
            await answer(canary, named(1, str(n)))
        except Failed:
            failures += 1
    assert failures == 10
    traffic = canary.status()["traffic"]
    assert traffic[1]["percent"] == 0
    assert "100.0% of 10 requests failed" in traffic[1]["aborted"]


async def test_a_slow_canary_is_aborted() -> None:
    class Late(Predictor):
        signature = SIGNATURE

        async def infer(self, request: Request) -> Response:
            await asyncio.sleep(0.01)
            return times(2).infer(request)

    canary = Canary(side("stable", times(1)), [side("new", Late(), 50)], abort={"latency_ratio": 3, "min_requests": 5})
    answers = [(await answer(canary, named(1, str(n))))[0] for n in range(100)]
    assert answers.count(2.0) == 5
    assert "times as long" in canary.aborted["new"]


async def test_a_canary_that_is_not_loaded_takes_no_traffic() -> None:
    class Cold(Failing):
        def ready(self) -> bool:
            return False

    canary = Canary(side("stable", times(1)), [side("new", Cold(), 100)])
    assert await answer(canary, named(1, "a")) == [1.0]


async def test_a_shadow_sees_every_request_and_no_client_sees_it() -> None:
    shadow = Shadow(times(1), times(1.5))
    assert await answer(shadow, rows(0)) == [0.0]
    assert await answer(shadow, rows(2)) == [2.0]
    broken = Shadow(times(1), Failing())
    assert await answer(broken, rows(2)) == [2.0]
    await asyncio.sleep(0.01)
    assert shadow.counts == {"equal": 1, "different": 1, "failed": 0, "dropped": 0}
    assert shadow.largest == pytest.approx(1.0)
    assert broken.counts["failed"] == 1


async def test_a_slow_shadow_drops_rather_than_grows() -> None:
    slow = Slow()
    shadow = Shadow(times(1), slow)
    for n in range(100):
        await answer(shadow, rows(n))
    assert shadow.counts["dropped"] == 36
    slow.release.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert shadow.counts["equal"] == 64
