"""Models that the gRPC tests serve: the public `simple` and `simple_string` of Triton's client examples, and some that wait,
stream, fail or echo."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.predictor import Function, Predictor, Request, Response, Signature, TensorSpec
from mlaas.modelserver.repository import Model, Repository, Served
from mlaas.modelserver.table import Access
from mlaas.modelserver.tensors import DTYPES, Tensor

PAIR = ("INPUT0", "INPUT1")
SUM_AND_DIFFERENCE = ("OUTPUT0", "OUTPUT1")


def _signature(datatype: str, properties: dict[str, str] | None = None) -> Signature:
    return Signature(
        tuple(TensorSpec(name, datatype, (-1, 16)) for name in PAIR),
        tuple(TensorSpec(name, datatype, (-1, 16)) for name in SUM_AND_DIFFERENCE),
        properties=properties or {},
    )


def simple() -> Predictor:
    """Two INT32 tensors of n x 16: their sum and their difference."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        left, right = arrays
        return [left + right if name == "OUTPUT0" else left - right for name in outputs]

    return Function(_signature("INT32", {"task": "arithmetic"}), function)


def simple_string() -> Predictor:
    """The same with the numbers written in decimal digits."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        try:
            left, right = (np.vectorize(int, otypes=[np.int64])(array) for array in arrays)
        except ValueError as error:
            raise Invalid(f"An element is no whole number: {error}.") from error
        results = [left + right if name == "OUTPUT0" else left - right for name in outputs]
        return [
            np.array([str(item).encode() for item in result.flat], object).reshape(result.shape) for result in results
        ]

    return Function(_signature("BYTES"), function)


def identity(datatype: str) -> Predictor:
    """Any tensor of one datatype and two dimensions, given back."""
    signature = Signature(
        (TensorSpec("x", datatype, (-1, -1)),), (TensorSpec("y", datatype, (-1, -1), labels=("a", "b", "c")),)
    )
    return Function(signature, lambda arrays, outputs: [arrays[0]])


class Waiting(Predictor):
    """Doubles its input after the seconds that the request's parameter `seconds` says; counts who is waiting and who was
    cancelled."""

    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0

    async def infer(self, request: Request) -> Response:
        self.waiting += 1
        try:
            await asyncio.sleep(float(request.parameters.get("seconds", 0.01)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return Response([Tensor("y", request.inputs[0].array * np.float32(2), "FP32")])


class Repeating(Predictor):
    """Decoupled: gives each element of its input as an answer of its own; refuses negative ones when it comes to them."""

    signature = Signature(
        (TensorSpec("IN", "INT32", (-1,)),),
        (TensorSpec("OUT", "INT32", (1,)),),
        batched=False,
        properties={"decoupled": "true"},
    )

    def infer(self, request: Request) -> Response:
        raise Invalid("This model streams.")

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        for value in request.inputs[0].array:
            if value < 0:
                raise Invalid(f"{value} is negative.")
            await asyncio.sleep(0)
            yield Response([Tensor("OUT", np.array([value], np.int32), "INT32")])


class Failing(Predictor):
    """Raises what its parameter `error` names."""

    signature = Waiting.signature

    def infer(self, request: Request) -> Response:
        if request.parameters.get("error") == "unavailable":
            raise Unavailable("The back end is away.")
        raise RuntimeError("a defect of the model")


def served(*, tokens: dict[str, list[str]] | None = None) -> Dispatch:
    """A dispatch with all of them in the project `default`, `simple` in two versions, and `private` in the project `physics`."""
    repository = Repository()
    models: dict[str, Predictor] = {
        "simple": simple(),
        "simple_string": simple_string(),
        "waiting": Waiting(),
        "repeat": Repeating(),
        "failing": Failing(),
        **{f"identity_{datatype.lower()}": identity(datatype) for datatype in DTYPES},
    }
    for name, predictor in models.items():
        repository.put(Model("default", name, versions={"1": Served(name, "1", predictor, "READY")}))
    repository.find("default", "simple").versions["2"] = Served("simple", "2", simple(), "READY")
    repository.put(Model("default", "loading", versions={"1": Served("loading", "1", reason="it is being read")}))
    private = Model("physics", "private", Access(), {"1": Served("private", "1", simple(), "READY")})
    repository.put(private)
    dispatch = Dispatch(repository)
    dispatch.started = True
    dispatch.admit(tokens or {})
    return dispatch
