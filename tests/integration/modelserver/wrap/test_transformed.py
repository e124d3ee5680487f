"""Transformers in a real worker around a predictor."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.conform import conform
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Function, Request, Response, Signature, TensorSpec
from mlaas.modelserver.table import Transformer
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.transformed import Transformed

_CLASS = '''
import numpy as np


class Transformer:
    """Windows of a series in, a verdict out."""

    def load(self):
        self.names = np.array(["calm", "alarm"])

    def preprocess(self, inputs, parameters):
        series = inputs["instances"]
        if series.ndim != 2:
            raise ValueError("one series a row")
        return {"x": np.stack([series.mean(axis=1), series.max(axis=1)], axis=1).astype(np.float32)}

    def postprocess(self, outputs):
        return {"verdict": self.names[(outputs["y"] > 5).astype(int)], "score": outputs["y"]}
'''

_INNER = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),))


@pytest.fixture
async def transformed(tmp_path: Path) -> AsyncIterator[Transformed]:
    (tmp_path / "transformer.py").write_text(_CLASS)
    inner = Function(_INNER, lambda arrays, outputs: [arrays[0][:, 1] - arrays[0][:, 0]])
    found = Transformed(inner, Transformer(source=str(tmp_path), trusted=True), Loading())
    yield found
    await found.close()


async def ask(predictor: Transformed, rows: list[list[float]]) -> Response:
    if (waiting := predictor.wake()) is not None:
        await waiting
    request = Request([Tensor("instances", np.array(rows))], protocol="v1")
    return await predictor.infer(conform(request, predictor.signature))


async def test_what_the_client_sends_goes_through_both_methods_of_the_class(transformed: Transformed) -> None:
    response = await ask(transformed, [[1, 1, 1, 1], [0, 0, 0, 20]])
    verdict, score = response.outputs
    assert verdict.name == "verdict"
    assert verdict.array.tolist() == [b"calm", b"alarm"]
    assert score.array.tolist() == [0.0, 15.0]


async def test_an_error_of_the_class_is_said_and_the_worker_goes_on(transformed: Transformed) -> None:
    assert len((await ask(transformed, [[0, 0]])).outputs) == 2
    with pytest.raises(Exception, match="one series a row"):
        await transformed.infer(Request([Tensor("instances", np.zeros(3))]))
    assert (await ask(transformed, [[0, 0, 0, 20]])).outputs[1].array.tolist() == [15.0]


async def test_a_class_that_is_not_trusted_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "transformer.py").write_text(_CLASS)
    inner = Function(_INNER, lambda arrays, outputs: [arrays[0][:, 0]])
    found = Transformed(inner, Transformer(source=str(tmp_path)), Loading())
    with pytest.raises(Invalid, match="runs code"):
        await found.wake()  # type: ignore[misc]
    await found.close()
