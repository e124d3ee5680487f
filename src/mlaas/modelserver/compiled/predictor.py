"""A compiled model as a predictor: on the event loop where that is quick, else in a thread."""

import asyncio
import functools
from collections.abc import Awaitable, Mapping
from typing import Any

from numpy.typing import NDArray

from mlaas.modelserver.compiled.program import Answer
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.tensors import Tensor

LOOP_SECONDS = 1e-3
"""What a request may take on the loop, others wait for so long."""


class Compiled(Predictor):
    """`cost` is what one call takes in seconds, as measured when the model was compiled: `{"one": of one row, "row": of each
    further one}`. NumPy and ONNX Runtime let other threads run while they work."""

    def __init__(
        self, signature: Signature, answer: Answer, cost: Mapping[str, float], status: dict[str, Any], size: int
    ) -> None:
        self.signature = signature
        self._answer = answer
        self._status = status
        self._size = size
        self._datatypes = {output.name: output.datatype for output in signature.outputs}
        self._default = [output.name for output in signature.outputs if output.default]
        self._rows = rows_on_the_loop(cost) if signature.batched else int(cost.get("one", 0) < LOOP_SECONDS)

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        wanted = request.outputs
        if wanted is None:
            wanted = self._default
        inputs = [tensor.array for tensor in request.inputs]
        if not self._rows or (self.signature.batched and len(inputs[0]) > self._rows):
            return self._in_thread(inputs, wanted)
        return self._response(wanted, self._answer(inputs, wanted))

    def status(self) -> dict[str, Any]:
        return self._status

    def memory(self) -> int:
        return self._size

    async def _in_thread(self, inputs: list[NDArray[Any]], wanted: list[str]) -> Response:
        call = functools.partial(self._answer, inputs, wanted)
        return self._response(wanted, await asyncio.get_running_loop().run_in_executor(None, call))

    def _response(self, wanted: list[str], arrays: list[NDArray[Any]]) -> Response:
        types = self._datatypes
        return Response([Tensor(name, array, types[name]) for name, array in zip(wanted, arrays, strict=True)])


def rows_on_the_loop(cost: Mapping[str, float]) -> int:
    """How many rows take less than LOOP_SECONDS."""
    spare = LOOP_SECONDS - cost.get("one", 0.0)
    return 0 if spare <= 0 else 1 + int(spare / max(cost.get("row", 0.0), 1e-9))
