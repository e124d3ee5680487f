"""The server of the HTTP tests: `python -m tests.integration.modelserver.http.server [--tokens] [--hasty]` prints its port.

`--tokens`: projects with tokens (`alice` belongs to physics, `bob` to physics and biology, `svc` may call one service).
`--hasty`: short time-outs and small limits, for clients that misbehave.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import uvloop

from mlaas.kernel.errors import Invalid
from mlaas.kernel.listen import bind
from mlaas.modelserver.dispatch import Dispatch, digest_of
from mlaas.modelserver.http.port import Limits
from mlaas.modelserver.predictor import Function, Predictor, Request, Response, Signature, TensorSpec
from mlaas.modelserver.repository import Model, Repository, Served
from mlaas.modelserver.server import Front, serve
from mlaas.modelserver.table import Access
from mlaas.modelserver.tensors import DTYPES, Tensor, from_float32, to_float32

FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
PAIR = ("INPUT0", "INPUT1")
BOTH = ("OUTPUT0", "OUTPUT1")


def simple() -> Predictor:
    """Triton's `simple`: sum and difference of two INT32 tensors, here with any number of rows of 16."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        return [arrays[0] + arrays[1] if name == "OUTPUT0" else arrays[0] - arrays[1] for name in outputs]

    return Function(_pair("INT32"), function)


def simple_string() -> Predictor:
    """Triton's `simple_string`: the same with the numbers in decimal digits."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        try:
            left, right = (np.array([[int(item) for item in row] for row in array], dtype=np.int64) for array in arrays)
        except ValueError as error:
            raise Invalid(f"An element is no whole number: {error}.") from error
        found = [left + right if name == "OUTPUT0" else left - right for name in outputs]
        texts = []
        for result in found:
            array = np.empty(result.shape, dtype=object)
            array[:] = [[str(item).encode() for item in row] for row in result]
            texts.append(array)
        return texts

    return Function(_pair("BYTES"), function)


def _pair(datatype: str) -> Signature:
    return Signature(
        tuple(TensorSpec(name, datatype, (-1, 16)) for name in PAIR),
        tuple(TensorSpec(name, datatype, (-1, 16)) for name in BOTH),
    )


def iris() -> Predictor:
    """Labels (0 where the first column is the largest) and, when asked for, scores with class names."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        found = {
            "label": arrays[0].argmax(axis=1) if len(arrays[0]) else np.empty(0, np.int64),
            "scores": arrays[0][:, :3] * 1.0,
        }
        return [np.ascontiguousarray(found[name]) for name in outputs]

    signature = Signature(
        (TensorSpec("x", "FP32", (-1, 4)),),
        (
            TensorSpec("label", "INT64", (-1,)),
            TensorSpec("scores", "FP32", (-1, 3), default=False, labels=("setosa", "versicolor", "virginica")),
        ),
        features=FEATURES,
        platform="sklearn",
    )
    return Function(signature, function)


def identity(datatype: str) -> Predictor:
    """Any tensor of one datatype and two dimensions, given back."""
    signature = Signature((TensorSpec("x", datatype, (-1, -1)),), (TensorSpec("y", datatype, (-1, -1)),))
    return Function(signature, lambda arrays, outputs: [arrays[0]])


def half() -> Predictor:
    """Half of a BF16 tensor."""
    signature = Signature((TensorSpec("x", "BF16", (-1,)),), (TensorSpec("y", "BF16", (-1,)),))
    return Function(
        signature, lambda arrays, outputs: [from_float32("y", to_float32(Tensor("x", arrays[0], "BF16")) / 2).array]
    )


def inverse() -> Predictor:
    """1/x, which is not finite for 0."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        with np.errstate(divide="ignore"):
            return [1 / arrays[0]]

    return Function(Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),)), function)


def text() -> Predictor:
    """Texts in, their lengths and upper-case forms out."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        upper = np.empty(len(arrays[0]), dtype=object)
        upper[:] = [item.upper() for item in arrays[0]]
        found = {"label": upper, "length": np.array([len(item) for item in arrays[0]], dtype=np.int32)}
        return [found[name] for name in outputs]

    signature = Signature(
        (TensorSpec("text", "BYTES", (-1,)),),
        (TensorSpec("label", "BYTES", (-1,)), TensorSpec("length", "INT32", (-1,))),
    )
    return Function(signature, function)


def answer() -> Predictor:
    """Two texts a row (question, context), one text out."""

    def function(arrays: list[Any], outputs: list[str]) -> list[Any]:
        found = np.empty(len(arrays[0]), dtype=object)
        found[:] = [question + b"|" + context for question, context in zip(*arrays, strict=True)]
        return [found]

    return Function(
        Signature(
            (TensorSpec("question", "BYTES", (-1,)), TensorSpec("context", "BYTES", (-1,))),
            (TensorSpec("answer", "BYTES", (-1,)),),
        ),
        function,
    )


class Waiting(Predictor):
    """Doubles its input after the seconds that the parameter `seconds` says."""

    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))

    async def infer(self, request: Request) -> Response:
        await asyncio.sleep(float(request.parameters.get("seconds", 0.01)))
        return Response([Tensor("y", request.inputs[0].array * np.float32(2), "FP32")])


class Failing(Predictor):
    """Has a defect."""

    signature = Waiting.signature

    def infer(self, request: Request) -> Response:
        raise RuntimeError("a defect of the model")


class Words(Predictor):
    """Streams the words of a text; refuses `bad` when it comes to it."""

    signature = Signature((TensorSpec("prompt", "BYTES", (-1,)),), (TensorSpec("word", "BYTES", (-1,)),))

    def infer(self, request: Request) -> Response:
        return _texts("word", [request.inputs[0].array[0].upper()])

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        for word in request.inputs[0].array[0].split():
            if word == b"bad":
                raise Invalid("The word 'bad' is not spoken.")
            await asyncio.sleep(float(request.parameters.get("seconds", 0)))
            yield _texts("word", [word])


class Explained(Waiting):
    """Explains by giving the input back."""

    def explain(self, request: Request) -> Response:
        return Response([Tensor("attributions", request.inputs[0].array, "FP32")])


class Echo(Predictor):
    """Gives back what it was told beside the tensors: parameters, headers, id."""

    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("said", "BYTES", (-1,)),))

    def infer(self, request: Request) -> Response:
        said = [f"{key}={value}" for key, value in sorted({**request.parameters, **request.headers}.items())]
        response = _texts("said", [item.encode() for item in said])
        response.parameters = {"id": request.id, "said": len(said)}
        return response


def _texts(name: str, items: list[bytes]) -> Response:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return Response([Tensor(name, array, "BYTES")])


def models() -> dict[str, Predictor]:
    return {
        "simple": simple(),
        "simple_string": simple_string(),
        "iris": iris(),
        "org/iris": iris(),
        "half": half(),
        "inverse": inverse(),
        "text": text(),
        "answer": answer(),
        "waiting": Waiting(),
        "failing": Failing(),
        "words": Words(),
        "explained": Explained(),
        "echo": Echo(),
        **{f"identity_{datatype.lower()}": identity(datatype) for datatype in DTYPES},
    }


class Control:
    """Switches versions of the repository on and off."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def load(self, project: str, name: str, parameters: Any) -> None:
        for served in self._repository.find(project, name).versions.values():
            served.state, served.reason = "READY", ""

    async def unload(self, project: str, name: str, parameters: Any) -> None:
        for served in self._repository.find(project, name).versions.values():
            served.state, served.reason = "UNAVAILABLE", "unloaded"


def dispatch(tokens: bool = False) -> Dispatch:
    repository = Repository()
    for name, predictor in models().items():
        repository.put(Model("default", name, versions={"1": Served(name, "1", predictor, "READY")}))
    repository.find("default", "simple").versions["2"] = Served("simple", "2", simple(), "READY")
    repository.put(Model("default", "loading", versions={"1": Served("loading", "1", reason="it is being read")}))
    private = digest_of("svc") if tokens else ""
    for project in ("physics", "biology"):
        access = Access(public=not tokens, tokens=[private] if tokens and project == "biology" else [])
        repository.put(Model(project, "iris", access, {"1": Served("iris", "1", iris(), "READY")}))
    found = Dispatch(repository, Control(repository))
    if tokens:
        members = {"physics": [digest_of("alice"), digest_of("bob")], "biology": [digest_of("bob")]}
        found.admit(members, domain="serve.example.org")
    else:
        found.admit({}, domain="serve.example.org")
    return found


def main() -> None:
    hasty = Limits(
        body_bytes=1 << 20,
        header_bytes=8 << 10,
        header_seconds=1.0,
        body_seconds=1.0,
        body_rate=1 << 20,
        idle_seconds=1.0,
        write_seconds=1.5,
    )
    sock = bind("127.0.0.1", 0, "the tests", "--port")
    front = Front(
        dispatch("--tokens" in sys.argv), [sock], hasty if "--hasty" in sys.argv else Limits(), "--log" in sys.argv
    )
    front.dispatch.regions.enabled = True

    async def listening() -> None:
        print(sock.getsockname()[1], flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(front, listening))


if __name__ == "__main__":
    main()
