"""What a model format is: how its folder is recognised, and how its framework's model is opened.

A format's module imports nothing of its framework at import time: formats are asked for `detects` in the front, opened only in a
worker or compile process.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from mlaas.modelserver.errors import Unexplained
from mlaas.modelserver.predictor import Signature


@dataclass(frozen=True, slots=True)
class Opened:
    """How a model is opened. `root` is the model's folder or file; `trusted` allows pickle and the folder's own code."""

    root: Path
    trusted: bool = False
    device: str = "cpu"
    options: dict[str, Any] | None = None


class Original(ABC):
    """A model opened with its own framework, in a process of its own. Called from one thread at a time.

    `sample()` gives rows on which the compiled model is compared with this one: an input example that the folder brings, else
    rows that the format can make up from the signature (named in the status as such).
    """

    signature: Signature
    tolerance: Mapping[str, tuple[float, float]] | None = None
    """Datatype -> (absolute, relative) within which a compiled form agrees; None takes the parity check's own."""

    @abstractmethod
    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        """Arrays of the named outputs for arrays of the signature's inputs. Raises Invalid for rows it cannot take."""

    def stream(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> Iterator[list[NDArray[Any]]]:
        """Piece by piece; most models give one."""
        yield self.answer(inputs, outputs, parameters)[0]

    def answer(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> tuple[list[NDArray[Any]], dict[str, Any]]:
        """What `predict` gives, and parameters of the response. A format whose models take parameters of the request
        overrides this."""
        return self.predict(inputs, outputs), {}

    def explain(self, inputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Attributions by name. Raises Unexplained where the model has no explainer."""
        raise Unexplained()

    def sample(self) -> list[NDArray[Any]] | None:
        """Input arrays for the parity check, or None when there is no way to make any."""
        return None

    def compile(self, target: Path) -> dict[str, Any] | None:
        """Write a compiled form into the empty folder `target` and return its `compiled.json` without signature and parity
        (`{"kind": "linear" | "onnx" | "text", ...}`); None when this model has none. Raises Uncompiled with the reason."""
        return None

    def agree(self, document: Mapping[str, Any], target: Path) -> dict[str, Any] | None:
        """How well the form compiled into `target` agrees, where comparing arrays of numbers is not enough; None has its outputs
        compared on the `sample`. Raises Uncompiled."""
        return None


class AsyncOriginal(ABC):
    """A custom predictor whose `predict` is a coroutine, or an async generator when it streams. Many requests run at once."""

    signature: Signature

    @abstractmethod
    async def predict(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> list[NDArray[Any]]: ...

    @abstractmethod
    def stream(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> AsyncIterator[list[NDArray[Any]]]: ...


METHOD = "transformer_method"
"""The parameter of a request that tells a transformer which of its two methods is called."""


INT8 = "int8"
"""The option that asks for weights of 8 bits, `{"rows": FILE, "max_drop": 0.01}`. The loader makes it of `Deployment.int8`."""


class Freeform(ABC):
    """What takes and gives tensors of any names and shapes: a transformer. Its signature is empty."""

    signature = Signature((), (), batched=False, platform="transformer")

    @abstractmethod
    def call(
        self, method: str, tensors: dict[str, NDArray[Any]], parameters: Mapping[str, Any]
    ) -> dict[str, NDArray[Any]]:
        """What `preprocess` or `postprocess` makes of the tensors."""


class Uncompiled(Exception):
    """There is no compiled form; the text says why and goes into the model's status."""


class Format(ABC):
    """One model format."""

    name: ClassVar[str]  # as in Deployment.format and KServe's modelFormat
    packages: ClassVar[tuple[str, ...]]  # what must be importable to open it; said with the fix when missing
    executes: ClassVar[bool] = False  # opening it always runs code from the folder or unpickles: only when trusted
    files: ClassVar[str] = ""  # what the folder holds, in words, for the message when nothing is recognised

    @abstractmethod
    def detects(self, root: Path) -> bool:
        """Whether this folder or file is of this format. Looks at names and first bytes only."""

    def needs(self, root: Path) -> tuple[str, ...]:
        """What must be importable to open this one: `packages`, unless its folder decides."""
        return self.packages

    @abstractmethod
    def open(self, opened: Opened) -> Original | AsyncOriginal | Freeform:
        """The model. Raises Invalid with a hint for a folder that is broken or lacks something."""
