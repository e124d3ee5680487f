"""A transformer that was compiled: its tokenizer, its network in ONNX Runtime, and what lies between. No torch, no transformers.

    tokenizer.json    of the library `tokenizers`, without truncation or padding
    model.onnx        inputs input_ids, attention_mask, token_type_ids (those that the model takes): int64 [n, length]

`compiled.json` has under `text` the facts of the model (`objectives.py`).
"""

import asyncio
import functools
import os
from collections.abc import Awaitable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.compiled import objectives
from mlaas.modelserver.compiled.session import open_session
from mlaas.modelserver.predictor import Predictor, Request, Response, response_of
from mlaas.modelserver.tensors import Tensor

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
_ORDER = ("input_ids", "attention_mask", "token_type_ids")


class RawTokenizer:
    """`objectives.Tokenizer` by the library `tokenizers` alone; used by several threads at once."""

    def __init__(self, file: Path, facts: Mapping[str, Any]) -> None:
        made = import_module("tokenizers").Tokenizer.from_file(str(file))
        longest = facts["max_length"]
        if facts["objective"] == "question-answering":
            stride = min(objectives.STRIDE, longest // 4)
            made.enable_truncation(longest, stride=stride, strategy="only_second")
        else:
            made.enable_truncation(longest, strategy="longest_first")
        self._tokenizer = made
        self._plain = import_module("tokenizers").Tokenizer.from_file(str(file))

    def encode(self, first: list[str], second: list[str] | None = None) -> list[Any]:
        if second is None and len(first) == 1:
            return [self._tokenizer.encode(first[0])]
        batch = first if second is None else list(zip(first, second, strict=True))
        try:
            return list(self._tokenizer.encode_batch(batch))
        except Exception as error:  # the library raises nothing narrower; only the second text is cut, see __init__
            raise Invalid(
                f"The texts cannot be cut to what the model takes: {error}.",
                field="inputs",
                hint="Is a question as long as the model's longest input? Shorten it.",
            ) from None

    def plain(self, text: str) -> Any:
        return self._plain.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._plain.decode(list(ids), skip_special_tokens=True))


class Network:
    """`objectives.Run` by ONNX Runtime."""

    def __init__(self, file: Path, threads: int = 1, device: str = "cpu") -> None:
        self._session = open_session(file, threads=threads, device=device)
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._outputs = [item.name for item in self._session.get_outputs()]

    def __call__(self, ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> dict[str, NDArray[Any]]:
        feed = {name: array for name, array in zip(_ORDER, (ids, mask, types), strict=True) if name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, feed), strict=True))


def objective_of(document: Mapping[str, Any], folder: Path, threads: int = 1) -> objectives.Objective:
    """The compiled model of a folder as an objective."""
    facts = document["text"]
    made = objectives.OBJECTIVES[facts["objective"]]
    return made(facts, RawTokenizer(folder / TOKENIZER, facts), Network(folder / GRAPH, threads))


class Text(Predictor):
    """Answers in a thread: a network takes milliseconds, and ONNX Runtime lets other threads run meanwhile."""

    def __init__(
        self, document: Mapping[str, Any], objective: objectives.Objective, status: dict[str, Any], size: int
    ) -> None:
        self.signature = signatures.from_json(document["signature"])
        self._objective = objective
        self._status = status
        self._size = size
        self._datatypes = {spec.name: spec.datatype for spec in self.signature.outputs}
        self._default = [spec.name for spec in self.signature.outputs if spec.default]

    def infer(self, request: Request) -> Awaitable[Response]:
        call = functools.partial(self._answer, request)
        return asyncio.get_running_loop().run_in_executor(None, call)

    def _answer(self, request: Request) -> Response:
        wanted = self._default if request.outputs is None else request.outputs
        inputs = [tensor.array for tensor in request.inputs]
        found, said = objectives.respond(self._objective, self.signature, inputs, wanted, request.parameters)
        tensors = [Tensor(name, array, self._datatypes[name]) for name, array in zip(wanted, found, strict=True)]
        return response_of(tensors, said)

    def status(self) -> dict[str, Any]:
        return self._status

    def memory(self) -> int:
        return self._size


def threads() -> int:
    """Threads of a network: all cores, since requests of one model are few at a time."""
    return max(1, len(os.sched_getaffinity(0)))
