"""The one idea of the data plane: everything that answers an inference request is a Predictor over named tensors.

A framework's model, a batcher, a canary, a graph, a transformer, a logger, a remote server: each is a Predictor, and most of
them wrap another one. Protocols are codecs in front of it.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlaas.modelserver.errors import Unexplained
from mlaas.modelserver.tensors import Tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model takes or gives: -1 stands for a dimension that varies (the first one is the batch).

    `default` False (outputs only): computed only when a request names it, for example probabilities beside labels.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    default: bool = True
    labels: tuple[str, ...] = ()  # outputs: names of the classes by index, for the classification extension


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs by name.

    `features`: the column names of a single tabular input, in order, so that V1 rows may be objects and a wrong order is
    seen. `batched`: the first dimension of all tensors is a batch whose rows are independent. `platform` is the word that
    Triton's clients read in the model metadata, for example `sklearn` or `onnxruntime_onnx`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[str, ...] = ()
    batched: bool = True
    platform: str = "mlaas"
    properties: Mapping[str, str] = field(default_factory=dict)


class Request:
    """One inference request.

    `inputs` are as sent (the codec has parsed them; `conform` in signature.py brings them to the model's names, datatypes and
    shapes). `outputs` None means all default ones. `headers` (lower-case names) holds what travels on to remote steps:
    `x-request-id`, `x-b3-*`, `traceparent`, `tracestate`, `authorization`, and the sticky header of a canary.
    `deadline` is in seconds of `time.monotonic()`.
    """

    __slots__ = ("deadline", "headers", "id", "inputs", "outputs", "parameters", "protocol")

    def __init__(
        self,
        inputs: list[Tensor],
        outputs: list[str] | None = None,
        id: str = "",
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
        protocol: str = "v2",
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.id = id
        self.parameters: Mapping[str, Any] = parameters or {}
        self.headers: Mapping[str, str] = headers or {}
        self.deadline = deadline
        self.protocol = protocol


class Response:
    """Outputs in the order of the signature (or of the request's `outputs`).

    `model` and `version` say who answered where that is not the addressed one (a canary, say); `timing` is
    (queue, compute) in nanoseconds for the statistics. `batch` says how many rows were executed together: None this request's
    own, 0 when another response of the same execution counts it. `cut` says of each row how many of its texts were cut to what
    the model takes (None: of none), of which `parameters` have the sum (`truncation`). `document` is what JSON protocols answer
    instead of the outputs: the merged answers of an ensemble, which no list of tensors says.
    """

    __slots__ = ("batch", "cut", "document", "model", "outputs", "parameters", "timing", "version")

    def __init__(
        self,
        outputs: list[Tensor],
        parameters: Mapping[str, Any] | None = None,
        version: str = "",
        model: str = "",
        timing: tuple[int, int] | None = None,
        batch: int | None = None,
    ) -> None:
        self.batch = batch
        self.cut: Sequence[int] | None = None
        self.document: Any = None
        self.outputs = outputs
        self.parameters: Mapping[str, Any] = parameters or {}
        self.version = version
        self.model = model
        self.timing = timing


CUT = "__cut"
"""The parameter in which a model's answer has `Response.cut` until a response is made of it."""


def truncation(cut: Sequence[int], longest: int) -> dict[str, Any]:
    """The parameters of a response of whose rows so many texts were cut to `longest` tokens: none where none was."""
    return {"truncated": sum(cut), "max_length": longest} if any(cut) else {}


def response_of(
    outputs: list[Tensor], parameters: Mapping[str, Any], timing: tuple[int, int] | None = None
) -> Response:
    """The response that a model's answer makes."""
    if CUT not in parameters:
        return Response(outputs, parameters, timing=timing)
    response = Response(outputs, {name: value for name, value in parameters.items() if name != CUT}, timing=timing)
    response.cut = parameters[CUT]
    return response


class Predictor(ABC):
    """Answers requests. Safe to be called by many requests at once, from the event loop only.

    `infer` may answer at once, or give something to wait for. A model whose answer costs microseconds answers at once: a
    coroutine would cost more than the model. Whatever takes longer than about a millisecond must not run on the loop.

    Raises Invalid for what the client sent, Unavailable (with `retry_after`) while it cannot answer.
    """

    signature: Signature

    def ready(self) -> bool:
        """Whether it is in memory."""
        return True

    @abstractmethod
    def infer(self, request: Request) -> Response | Awaitable[Response]:
        """The answer to one request. Its rows are in the order of the request's rows."""

    def slots(self) -> int:
        """How many calls of `infer` it works on side by side; more of them wait for each other."""
        return 1

    def wake(self) -> Awaitable[None] | None:
        """None where `signature` is known and `infer` can be called now; else what to wait for first (a model that loads on
        its first use). Raises Unavailable where it cannot be had."""
        return None

    def stream(self, request: Request) -> AsyncIterator[Response]:
        """The answer piece by piece; a model that does not stream gives one piece."""
        return _one(self, request)

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        """Attributions for the request's rows. Raises Unexplained where there is no explainer."""
        raise Unexplained()

    def status(self) -> dict[str, Any]:
        """What an operator wants to know: format, compiled or not and why, parity, device, memory, worker and restarts."""
        return {}

    def tails(self) -> dict[str, Any]:
        """Worker -> `{total, lines}`: how many lines its log has had, and the last of them. Empty where none runs."""
        return {}

    def memory(self) -> int:
        """Bytes that unloading it would free, estimated."""
        return 0

    async def close(self) -> None:
        """Let go of everything. Called once, after the last answer."""


class Function(Predictor):
    """A function on arrays as a predictor, run on the loop: for compiled models that answer in microseconds.

    `function` takes the arrays of the signature's inputs in order and the names of the wanted outputs, and returns their
    arrays in that order.
    """

    def __init__(
        self,
        signature: Signature,
        function: Callable[[list[Any], list[str]], list[Any]],
        status: dict[str, Any] | None = None,
        size: int = 0,
    ) -> None:
        self.signature = signature
        self._function = function
        self._status = status or {}
        self._size = size
        self._datatypes = {output.name: output.datatype for output in signature.outputs}
        self._default = [output.name for output in signature.outputs if output.default]

    def infer(self, request: Request) -> Response:
        wanted = request.outputs if request.outputs is not None else self._default
        arrays = self._function([tensor.array for tensor in request.inputs], wanted)
        return Response(
            [Tensor(name, array, self._datatypes[name]) for name, array in zip(wanted, arrays, strict=True)]
        )

    def status(self) -> dict[str, Any]:
        return self._status

    def memory(self) -> int:
        return self._size


async def _one(predictor: Predictor, request: Request) -> AsyncIterator[Response]:
    answer = predictor.infer(request)
    yield answer if isinstance(answer, Response) else await answer
