import asyncio
from pathlib import Path

import numpy as np
import pytest
from tests.integration.modelserver.worker.conftest import Serve, ask, told

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.errors import Failed, Throttled, Unexplained
from mlaas.modelserver.predictor import Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker import arena
from mlaas.modelserver.worker.start import start


async def test_a_class_in_its_own_file_answers(serve: Serve) -> None:
    pool = await serve("""
def load(self):
    self.factor = 2

def predict(self, inputs):
    return inputs["x"] * self.factor
""")
    assert told(await pool.infer(ask(1, 2, 3))) == [[2, 4, 6]]
    assert pool.signature.platform == "custom"
    assert pool.status()["workers"][0]["state"] == "ready"
    assert pool.memory() > 1 << 20


async def test_large_tensors_come_and_go_by_shared_memory_which_is_used_again(serve: Serve) -> None:
    pool = await serve('def predict(self, inputs):\n    return inputs["x"] + 1')
    rows = np.arange(29 * 10_000, dtype=np.float32).reshape(10_000, 29)
    for _ in range(20):
        response = await pool.infer(Request([Tensor("x", rows)]))
        assert np.array_equal(response.outputs[0].array, rows + 1)
    worker = next(iter(pool._workers.values()))
    assert worker._arena.used == 0
    del response
    assert told(await pool.infer(ask(1))) == [[2]]
    assert not worker._views


async def test_an_answer_in_shared_memory_stays_as_it_is_while_somebody_looks_at_it(serve: Serve) -> None:
    pool = await serve('def predict(self, inputs):\n    return inputs["x"]')
    kept = []
    for value in range(5):
        response = await pool.infer(ask(value, rows=50_000))
        kept.append((value, response.outputs[0].array[10:20]))
        del response
    assert all((view == value).all() for value, view in kept)


async def test_inputs_that_a_model_keeps_are_not_written_over(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    self.kept = getattr(self, "kept", [])
    self.kept.append(inputs["x"][:1])
    return __import__("numpy").concatenate(self.kept)
""")
    for value in range(4):
        response = await pool.infer(ask(value, rows=50_000))
    assert told(response) == [[0], [1], [2], [3]]


async def test_what_does_not_fit_in_shared_memory_goes_through_the_socket(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await serve('def predict(self, inputs):\n    return inputs["x"] * 3')
    monkeypatch.setattr(arena.Arena, "put", lambda *_: None)
    rows = np.ones((300_000, 3), dtype=np.float32)
    response = await pool.infer(Request([Tensor("x", rows)]))
    assert np.array_equal(response.outputs[0].array, rows * 3)


async def test_texts_both_small_and_large(serve: Serve) -> None:
    pool = await serve("""
inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
outputs = [{"name": "length", "datatype": "INT64", "shape": [-1]}, {"name": "upper", "datatype": "BYTES", "shape": [-1]}]

def predict(self, inputs):
    texts = inputs["text"].tolist()
    return {"length": [len(text) for text in texts], "upper": [text.decode().upper() for text in texts]}
""")
    for texts in (["ab", "", "héé"], ["x" * 100_000, "y"]):
        array = np.empty(len(texts), dtype=object)
        array[:] = [text.encode() for text in texts]
        response = await pool.infer(Request([Tensor("text", array)]))
        assert response.outputs[0].array.tolist() == [len(text.encode()) for text in texts]
        assert [item.decode() for item in response.outputs[1].array] == [text.upper() for text in texts]
    only = await pool.infer(Request([Tensor("text", array)], outputs=["upper"]))
    assert [tensor.name for tensor in only.outputs] == ["upper"]


async def test_what_the_model_raises_is_said_and_it_goes_on(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    if inputs["x"][0, 0] < 0:
        raise ValueError("no negative numbers")
    return inputs["x"]
""")
    with pytest.raises(Failed, match="ValueError: no negative numbers"):
        await pool.infer(ask(-1))
    assert told(await pool.infer(ask(1))) == [[1]]
    assert any("in predict" in line for line in pool.logs()[0])
    with pytest.raises(Unexplained):
        await pool.explain(ask(1))


async def test_a_model_that_explains_itself(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    return inputs["x"]

def explain(self, inputs):
    return {"weights": inputs["x"] * 10}
""")
    response = await pool.explain(ask(1, 2))
    assert response.outputs[0].name == "weights"
    assert told(response) == [[10, 20]]


async def test_parameters_of_the_request_reach_a_predict_that_takes_them(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs, parameters):
    return inputs["x"] + parameters.get("offset", 0)
""")
    assert told(await pool.infer(ask(1, parameters={"offset": 5}))) == [[6]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def load(self):\n    raise RuntimeError('no weights')\ndef predict(self, inputs): ...", "no weights"),
        ("import nosuchpackage\ndef predict(self, inputs): ...", "needs the package 'nosuchpackage'"),
        ("def predict(self, inputs): ...\ninputs = []", "list of tensors"),
    ],
)
async def test_a_model_that_cannot_be_opened_says_why(serve: Serve, body: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        await serve(body)


async def test_code_is_only_run_when_it_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("class Model:\n    def predict(self, inputs): ...")
    with pytest.raises(Invalid, match="runs code"):
        await start(Deployment(revision="untrusted"), tmp_path)


async def test_200_at_once_over_two_workers_come_back_to_who_asked(serve: Serve) -> None:
    pool = await serve('def predict(self, inputs):\n    return inputs["x"] * 2', workers=2)
    answers = await asyncio.gather(*(pool.infer(ask(value)) for value in range(200)))
    assert [told(answer) for answer in answers] == [[[2 * value]] for value in range(200)]


async def test_more_than_the_queue_holds_is_refused(serve: Serve) -> None:
    pool = await serve("""
def predict(self, inputs):
    import time
    time.sleep(0.2)
    return inputs["x"]
""", queue=3)  # fmt: skip
    waiting = [asyncio.ensure_future(pool.infer(ask(value))) for value in range(4)]
    with pytest.raises(Throttled, match="3 requests already wait"):
        pool.infer(ask(9))
    assert [told(answer) for answer in await asyncio.gather(*waiting)] == [[[0]], [[1]], [[2]], [[3]]]
    assert pool.load() == (0, 0)
