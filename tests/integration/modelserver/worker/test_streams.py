import asyncio

import pytest
from tests.integration.modelserver.worker.conftest import Serve, ask, told
from tests.integration.modelserver.worker.test_deaths import until

from mlaas.modelserver.errors import Crashed, Failed

COUNTING = """
def predict(self, inputs):
    self.ended = False
    try:
        for i in range(int(inputs["x"][0, 0])):
            print("piece", i, flush=True)
            yield [[float(i)]]
    finally:
        print("ended", flush=True)
"""
ASYNC_COUNTING = COUNTING.replace("def predict", "async def predict")


@pytest.mark.parametrize("body", [COUNTING, ASYNC_COUNTING])
async def test_pieces_come_one_by_one(serve: Serve, body: str) -> None:
    pool = await serve(body)
    pieces = [told(piece) async for piece in pool.stream(ask(100))]
    assert pieces == [[[float(i)]] for i in range(100)]
    assert told(await pool.infer(ask(3))) == [[2]]


@pytest.mark.parametrize("body", [COUNTING, ASYNC_COUNTING])
async def test_a_reader_that_goes_ends_the_generator_and_a_slow_one_holds_it_back(serve: Serve, body: str) -> None:
    pool = await serve(body)
    stream = pool.stream(ask(1_000_000))
    assert told(await anext(stream)) == [[0]]
    await until(lambda: len(pool.logs()[0]) >= 15)
    await asyncio.sleep(0.1)  # whether more than a window comes cannot be waited for
    assert len(pool.logs()[0]) < 40
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: pool.logs()[0][-1] == "ended")
    await until(lambda: pool.load() == (0, 0))
    assert told(await pool.infer(ask(3))) == [[2]]


async def test_a_stream_that_fails_says_so_after_its_pieces(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    yield [[1.0]]
    if inputs["x"][0, 0] > 0:
        raise KeyError("lost")
    import os
    os._exit(3)
""")
    for value, error in ((1, Failed), (0, Crashed)):
        stream = pool.stream(ask(value))
        assert told(await anext(stream)) == [[1]]
        with pytest.raises(error):
            await anext(stream)


async def test_a_model_that_does_not_stream_gives_one_piece(serve: Serve) -> None:
    pool = await serve('def predict(self, inputs):\n    return inputs["x"]')
    assert [told(piece) async for piece in pool.stream(ask(1, 2))] == [[[1, 2]]]


ASYNC = """
async def predict(self, inputs):
    import asyncio
    self.running = getattr(self, "running", 0) + 1
    print("began", flush=True)
    try:
        await asyncio.sleep(float(inputs["x"][0, 0]))
        return [[float(self.running)]]
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    finally:
        self.running -= 1
"""


async def test_requests_of_an_asynchronous_model_overlap(serve: Serve) -> None:
    pool = await serve(ASYNC)
    answers = await asyncio.gather(*(pool.infer(ask(0.3)) for _ in range(200)))
    assert max(told(answer)[0][0] for answer in answers) == 200


async def test_no_more_at_once_than_the_concurrency(serve: Serve) -> None:
    pool = await serve(ASYNC, concurrency=5)
    answers = await asyncio.gather(*(pool.infer(ask(0.02)) for _ in range(40)))
    assert max(told(answer)[0][0] for answer in answers) == 5


async def test_a_request_is_cancelled_when_its_client_goes(serve: Serve) -> None:
    pool = await serve(ASYNC)
    for _ in range(2):
        asked = asyncio.ensure_future(pool.infer(ask(60)))
        await until(lambda: pool.load()[0] == 1)
        asked.cancel()  # whether or not it has begun
        await until(lambda: pool.load() == (0, 0))
    asked = asyncio.ensure_future(pool.infer(ask(60)))
    await until(lambda: pool.logs()[0] and pool.logs()[0][-1] == "began")
    asked.cancel()
    await until(lambda: pool.load() == (0, 0))
    await until(lambda: pool.logs()[0] and pool.logs()[0][-1] == "cancelled")
    assert told(await pool.infer(ask(0))) == [[1]]


async def test_one_slow_asynchronous_request_does_not_take_the_others_down(serve: Serve) -> None:
    pool = await serve(ASYNC, timeout=1.0)
    slow = asyncio.ensure_future(pool.infer(ask(60)))
    beside = asyncio.ensure_future(pool.infer(ask(1.2)))
    with pytest.raises(Exception, match="did not answer within 1 s"):
        await slow
    with pytest.raises(Exception, match="did not answer within 1 s"):
        await beside
    assert told(await pool.infer(ask(0.1))) == [[1]]
    assert pool.status()["restarts"] == 0
