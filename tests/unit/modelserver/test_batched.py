import asyncio

import numpy as np
import pytest
from tests.unit.modelserver.models import SIGNATURE, Slow, answer, rows, times

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.errors import Crashed, Failed, Throttled, TimedOut
from mlaas.modelserver.predictor import CUT, Predictor, Request, Response, response_of, truncation
from mlaas.modelserver.table import Batcher
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.batched import Batched
from mlaas.modelserver.wrap.scale import Demand


async def turns() -> None:
    """Let everything run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_arrives_while_the_model_is_busy_makes_one_batch_with_the_answers_of_single_calls() -> None:
    model = Slow(2.0)
    batched = Batched(model, Batcher(max_batch_size=64))
    asked = [
        asyncio.ensure_future(answer(batched, rows(*range(first, first + size))))
        for first, size in [(0, 1), (5, 3), (9, 2)]
    ]
    await asyncio.sleep(0)
    model.release.set()
    assert await asyncio.gather(*asked) == [[0.0], [10.0, 12.0, 14.0], [18.0, 20.0]]
    assert model.calls == [1, 5]


async def test_a_bad_row_fails_only_its_own_request() -> None:
    model = Slow()
    batched = Batched(model, Batcher(max_batch_size=64))
    first = asyncio.ensure_future(answer(batched, rows(1)))
    others = [asyncio.ensure_future(answer(batched, rows(value))) for value in (2, -3, 4)]
    await asyncio.sleep(0)
    model.release.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [[1.0], [2.0], [4.0]]
    assert isinstance(answers[2], Invalid)


class Broken(Predictor):
    """Raises `error` for negative values; counts the rows of its calls."""

    signature = SIGNATURE

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls: list[int] = []

    async def infer(self, request: Request) -> Response:
        array = request.inputs[0].array
        self.calls.append(len(array))
        await asyncio.sleep(0)
        if (array < 0).any():
            raise self.error
        return Response([Tensor("y", array[:, 0])])


@pytest.mark.parametrize("error", [Failed("It broke."), RuntimeError("it broke"), Invalid("Not this row.", field="x")])
async def test_what_a_row_makes_the_model_raise_fails_its_own_request_only(error: Exception) -> None:
    model = Broken(error)
    batched = Batched(model, Batcher())
    values = [0, *range(1, 14), -3, *range(15, 17)]
    answers = await asyncio.gather(*(answer(batched, rows(value)) for value in values), return_exceptions=True)
    assert answers == [error if value < 0 else [float(value)] for value in values]
    assert model.calls[:2] == [1, 16]
    assert len(model.calls) == 2 + 2 * 4  # halves, down to the bad one


@pytest.mark.parametrize("error", [Crashed("The worker ended."), TimedOut("Too late."), Throttled("Too many.")])
async def test_what_is_no_rows_fault_is_not_tried_again(error: Exception) -> None:
    model = Broken(error)
    batched = Batched(model, Batcher())
    answers = await asyncio.gather(*(answer(batched, rows(value)) for value in (1, 2, -3, 4)), return_exceptions=True)
    assert answers == [[1.0], error, error, error]
    assert model.calls == [1, 3]


async def test_a_model_that_gives_no_row_for_each_row_answers_as_without_batching() -> None:
    class Mean(Predictor):
        signature = SIGNATURE

        async def infer(self, request: Request) -> Response:
            await asyncio.sleep(0)
            return Response([Tensor("y", request.inputs[0].array[:, 0].mean(keepdims=True))])

    batched = Batched(Mean(), Batcher())
    asked = [answer(batched, rows(*values)) for values in [(1,), (2, 4), (5, 7), (8,)]]
    assert await asyncio.gather(*asked) == [[1.0], [3.0], [6.0], [8.0]]


async def test_a_model_that_answers_at_once_is_called_directly() -> None:
    batched = Batched(times(3), Batcher())
    response = batched.infer(rows(1, 2))
    assert isinstance(response, Response)
    assert response.outputs[0].array.tolist() == [3.0, 6.0]


async def test_a_model_with_several_slots_works_on_so_many_batches_at_once() -> None:
    class Wide(Slow):
        now = most = 0

        def slots(self) -> int:
            return 3

        async def infer(self, request: Request) -> Response:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                return await super().infer(request)
            finally:
                self.now -= 1

    model = Wide()
    batched = Batched(model, Batcher(max_batch_size=2))
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in range(12)]
    await turns()
    model.release.set()
    assert await asyncio.gather(*asked) == [[float(value)] for value in range(12)]
    assert model.most == 3
    assert model.calls[:3] == [1, 1, 1]


async def test_a_replica_that_comes_takes_what_waits() -> None:
    class Growing(Slow):
        size = 1

        def slots(self) -> int:
            return self.size

    model = Growing()
    batched = Batched(model, Batcher())
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in (1, 2)]
    await turns()
    assert model.calls == [1]
    model.size = 2
    async with asyncio.timeout(5):
        while len(model.calls) < 2:  # noqa: ASYNC110 - looked at by the batcher's own clock
            await asyncio.sleep(0.01)
    model.release.set()
    assert await asyncio.gather(*asked) == [[1.0], [2.0]]


async def test_one_kind_of_requests_does_not_keep_another_from_its_turn() -> None:
    model = Slow()
    model.release.set()
    batched = Batched(model, Batcher(max_batch_size=2))
    order: list[str] = []

    async def ask(kind: str, value: float) -> None:
        request = rows(value)
        request.parameters = {"kind": kind}
        await answer(batched, request)
        order.append(kind)

    await asyncio.gather(*(ask("many", value) for value in range(20)), ask("few", 1))
    assert order.index("few") < 6


async def test_demand_counts_every_request_and_more_than_enough_of_them_are_throttled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, demand = Slow(), Demand()
    batched = Batched(model, Batcher(), demand)
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in range(5)]
    await asyncio.sleep(0)
    assert demand.now == 5
    monkeypatch.setattr("mlaas.modelserver.wrap.batched.MOST", 5)
    with pytest.raises(Throttled):
        batched.infer(rows(1))
    asked[3].cancel()
    model.release.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert demand.now == 0


async def test_latency_holds_a_batch_open_until_it_is_full() -> None:
    model = Slow()
    model.release.set()
    batched = Batched(model, Batcher(max_batch_size=4, max_latency=60_000))
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in range(3)]
    await asyncio.sleep(0.01)
    assert model.calls == []
    asked.append(asyncio.ensure_future(answer(batched, rows(3))))
    assert await asyncio.wait_for(asyncio.gather(*asked), 5) == [[0.0], [1.0], [2.0], [3.0]]
    assert model.calls == [4]


async def test_latency_closes_a_batch_that_does_not_fill() -> None:
    model = Slow()
    model.release.set()
    batched = Batched(model, Batcher(max_batch_size=100, max_latency=10))
    assert await asyncio.wait_for(asyncio.gather(*(answer(batched, rows(value)) for value in (1, 2))), 5) == [
        [1.0],
        [2.0],
    ]
    assert model.calls == [2]


async def test_requests_of_other_shapes_outputs_or_parameters_never_share_a_call() -> None:
    model = Slow()
    batched = Batched(model, Batcher(max_batch_size=64))
    other = rows(3)
    other.outputs = []
    tuned = rows(4)
    tuned.parameters = {"temperature": 1}
    asked = [asyncio.ensure_future(answer(batched, request)) for request in (rows(1), rows(2), other, tuned)]
    await asyncio.sleep(0)
    model.release.set()
    assert await asyncio.gather(*asked) == [[1.0], [2.0], [3.0], [4.0]]
    assert model.calls == [1, 1, 1, 1]


async def test_a_client_that_went_away_does_not_take_its_rows_into_the_batch() -> None:
    model = Slow()
    batched = Batched(model, Batcher(max_batch_size=64))
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in (1, 2, 3)]
    await asyncio.sleep(0)
    asked[1].cancel()
    await asyncio.sleep(0)
    model.release.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answers[0], answers[2]] == [[1.0], [3.0]]
    assert model.calls == [1, 1]


async def test_batches_are_no_larger_than_allowed_and_large_requests_go_alone() -> None:
    model = Slow()
    batched = Batched(model, Batcher(max_batch_size=3))
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in range(6)]
    whole = asyncio.ensure_future(answer(batched, Request([Tensor("x", np.ones((5, 2), np.float32))])))
    await asyncio.sleep(0)
    model.release.set()
    await asyncio.wait_for(asyncio.gather(*asked, whole), 5)
    assert max(size for size in model.calls if size != 5) <= 3
    assert sum(model.calls) == 11


async def test_statistics_say_how_long_a_request_waited_and_how_many_rows_ran_together() -> None:
    model = Slow()
    batched = Batched(model, Batcher(max_batch_size=64))

    async def whole(value: float) -> Response:
        given = batched.infer(rows(value))
        return given if isinstance(given, Response) else await given

    asked = [asyncio.ensure_future(whole(value)) for value in (1, 2, 3)]
    await asyncio.sleep(0.02)
    model.release.set()
    first, second, third = await asyncio.gather(*asked)
    assert first.batch is None
    assert (second.batch, third.batch) == (2, 0)
    assert second.timing is not None
    assert second.timing[0] > 10e6


async def test_names_of_all_outputs_and_parameters_of_the_wire_do_not_keep_requests_apart() -> None:
    model = Slow()
    batched = Batched(model, Batcher())
    named, binary = rows(2), rows(3)
    named.outputs = ["y"]
    binary.parameters = {"binary_data_output": True, "timeout": 10_000_000}
    asked = [asyncio.ensure_future(answer(batched, request)) for request in (rows(1), named, binary, rows(4))]
    await asyncio.sleep(0)
    model.release.set()
    assert await asyncio.gather(*asked) == [[1.0], [2.0], [3.0], [4.0]]
    assert model.calls == [1, 3]


async def test_the_call_is_counted_once_whoever_has_left() -> None:
    model = Slow()
    batched = Batched(model, Batcher())

    async def whole(value: float) -> Response:
        given = batched.infer(rows(value))
        return given if isinstance(given, Response) else await given

    first, left, third, fourth = [asyncio.ensure_future(whole(value)) for value in (1, 2, 3, 4)]
    await turns()
    first.cancel()  # the model is free, and begins with the others
    await turns()
    assert model.calls == [1, 3]
    left.cancel()
    model.release.set()
    found = await asyncio.gather(third, fourth)
    assert sorted(response.batch or 0 for response in found) == [0, 3]


async def test_closing_waits_for_what_is_under_way() -> None:
    model = Slow()
    batched = Batched(model, Batcher())
    asked = [asyncio.ensure_future(answer(batched, rows(value))) for value in (1, 2)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(batched.close())
    await asyncio.sleep(0)
    assert not closing.done()
    model.release.set()
    assert await asyncio.gather(*asked) == [[1.0], [2.0]]
    await asyncio.wait_for(closing, 5)
    assert model.closed


async def test_how_many_texts_were_cut_is_told_of_a_requests_own_texts_only() -> None:
    class Cutting(Slow):
        async def infer(self, request: Request) -> Response:
            response = await super().infer(request)
            cut = [int(value > 5) for value in request.inputs[0].array[:, 0]]
            return response_of(response.outputs, {**truncation(cut, 8), CUT: cut} if any(cut) else {})

    model = Cutting()
    batched = Batched(model, Batcher(max_batch_size=64, max_latency=1))
    asked = [asyncio.ensure_future(batched.infer(rows(*values))) for values in ((1, 2), (9,), (9, 3, 9))]  # type: ignore[arg-type]
    model.release.set()
    said = [response.parameters for response in await asyncio.gather(*asked)]
    assert model.calls == [6]
    assert said == [{}, {"truncated": 1, "max_length": 8}, {"truncated": 2, "max_length": 8}]
