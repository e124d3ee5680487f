"""Small predictors for unit tests, and a loader that makes them from a deployment's `source`."""

import asyncio
from collections.abc import Callable

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Function, Predictor, Request, Response, Signature, TensorSpec
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),))


def rows(*values: float) -> Request:
    """A request of one row per value: (value, 1)."""
    return Request([Tensor("x", np.array([[value, 1] for value in values], dtype=np.float32).reshape(-1, 2))])


def times(factor: float, size: int = 100) -> Function:
    """y = factor * x[0], at once."""
    return Function(SIGNATURE, lambda arrays, outputs: [arrays[0][:, 0] * np.float32(factor)], {"factor": factor}, size)


class Slow(Predictor):
    """y = factor * x[0] after `release` is set; refuses negative values; counts its calls."""

    signature = SIGNATURE

    def __init__(self, factor: float = 1.0, size: int = 100) -> None:
        self.factor = factor
        self.calls: list[int] = []
        self.release = asyncio.Event()
        self.closed = False
        self._size = size

    async def infer(self, request: Request) -> Response:
        array = request.inputs[0].array
        self.calls.append(len(array))
        await self.release.wait()
        if (array < 0).any():
            raise Invalid("Negative values are not taken.", field="x")
        return Response([Tensor("y", array[:, 0] * np.float32(self.factor))])

    def memory(self) -> int:
        return self._size

    async def close(self) -> None:
        self.closed = True


class Shelf:
    """A loader: the predictor that was put under the deployment's source. `gate` holds loads back while it is clear."""

    def __init__(self) -> None:
        self.made: dict[str, Callable[[], Predictor]] = {}
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, deployment: Deployment) -> Predictor:
        self.loads.append(deployment.source)
        await self.gate.wait()
        if deployment.source not in self.made:
            raise Invalid(f"There is no folder {deployment.source}.", hint="Is it mounted?")
        return self.made[deployment.source]()


async def answer(predictor: Predictor, request: Request) -> list[float]:
    """The values of the first output."""
    given = predictor.infer(request)
    response = given if isinstance(given, Response) else await given
    return [float(value) for value in response.outputs[0].array]
