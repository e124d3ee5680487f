"""What Keras, PyTorch and TensorFlow models have in common: a function of arrays whose signature the file, its `signature.json`
or a trial run says, and that answers in ONNX Runtime where that agrees."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver.formats.base import Original, Uncompiled
from mlaas.modelserver.formats.datatypes import datatype
from mlaas.modelserver.formats.folder import Declared, DeclaredTensor, example
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES

GRAPH = "model.onnx"
_ROWS, _NUMBERS = 64, 1 << 20
_FREE = 8  # elements along a dimension of any size, where rows are made up
_SEED = 20

Arrays = list[NDArray[Any]]


class Network(Original):
    """Subclasses give the network's answer (`_run`) and its ONNX form (`_graph`).

    Rows are compared within `ABSOLUTE + RELATIVE * |original|`: sums of float32 differ by the order of their additions.
    """

    tolerance: ClassVar[Mapping[str, tuple[float, float]]] = {  # type: ignore[misc]
        "FP64": (1e-9, 1e-7),
        "FP32": (1e-5, 1e-4),
        "FP16": (1e-3, 1e-2),
    }

    def __init__(
        self, root: Path, said: Declared, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], platform: str
    ) -> None:
        """`inputs` and `outputs` as the network itself has them; the folder may name and flatten them (`said`)."""
        self.root = root
        self.warnings: list[str] = []
        self.given = 0
        self.own = tuple(outputs)
        taken = _named(tuple(inputs), said)
        features = tuple(said.features)
        width = taken[0].shape[-1] if len(taken) == 1 and len(taken[0].shape) == 2 else 0
        found = tuple(_declared(spec, at, said) for at, spec in enumerate(outputs))
        self.signature = Signature(
            inputs=taken,
            outputs=found,
            features=features if len(features) == width else (),
            batched=all(spec.shape[:1] == (-1,) for spec in (*taken, *found)),
            platform=platform,
        )
        if not self.signature.batched:
            sizes = sorted({spec.shape[0] for spec in taken if spec.shape} - {-1})
            if sizes:
                self.warnings.append(f"It takes {sizes[0]} rows a request, no more and no less: it was saved so.")

    def predict(self, inputs: Arrays, outputs: list[str]) -> Arrays:
        try:
            found = self._run(inputs)
        except Error:
            raise
        except Exception as error:
            raise refused(error) from None
        answers = {}
        for spec, array in zip(self.signature.outputs, found, strict=True):
            if len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
                array = array.reshape(-1)
            answers[spec.name] = np.ascontiguousarray(array, DTYPES[spec.datatype])
        return [answers[name] for name in outputs]

    def sample(self) -> Arrays | None:
        given = example(self.root, self.signature)
        if not self.signature.batched:
            return given or made_up(self.signature.inputs, 1)
        rows = made_up(self.signature.inputs, _ROWS)
        if given is None or rows is None:
            self.given = 0 if given is None else len(given[0])
            return given or rows
        self.given = len(given[0])
        try:
            return [np.concatenate(pair) for pair in zip(given, rows, strict=True)]
        except ValueError:  # an example of another length along a free dimension
            return given

    def compile(self, target: Path) -> dict[str, Any] | None:
        self._graph(target / GRAPH)
        flat = [
            spec.name
            for spec, own in zip(self.signature.outputs, self.own, strict=True)
            if len(spec.shape) < len(own.shape)
        ]
        return {"kind": "onnx", "file": GRAPH, "own": True, "flat": flat}

    def agree(self, document: Mapping[str, Any], target: Path) -> dict[str, Any] | None:
        """One call is compared where a call has a fixed number of rows; else rows are, by the general check."""
        from mlaas.modelserver.compiled import native, read

        try:
            graph = native.signature_of(native.session_of(target / GRAPH))
        except Invalid as error:
            raise Uncompiled(error.message) from error
        _check(graph, self.signature)
        if self.signature.batched:
            return None
        rows = self.sample()
        if rows is None:
            raise Uncompiled("there are no rows to compare it on: add an input_example.json")
        answer = read.answer_of(document, target, self.root)
        names = [spec.name for spec in self.signature.outputs]
        worst = 0.0
        for spec, mine, theirs in zip(
            self.signature.outputs, answer(rows, names), self.predict(rows, names), strict=True
        ):
            limit, rate = self.tolerance.get(spec.datatype, (0.0, 0.0))
            difference = np.abs(mine.astype(np.float64) - theirs)
            if mine.shape != theirs.shape or (difference > limit + rate * np.abs(theirs)).any():
                raise Uncompiled(f"its output '{spec.name}' in ONNX Runtime is another one")
            worst = max(worst, float(difference.max(initial=0.0)))
        return {"rows": 1, "source": "one call", "max_absolute": worst, "labels_agree": True}

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays:
        """The arrays of all outputs, in their order."""

    @abstractmethod
    def _graph(self, file: Path) -> None:
        """Write the network as ONNX, with the signature's names. Raises Uncompiled."""


def refused(error: BaseException) -> Invalid:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Invalid(f"The model refuses the rows: {(lines or [type(error).__name__])[-1][:300]}", field="inputs")


def outputs_of(
    run: Any, inputs: Sequence[TensorSpec], example: Arrays | None, names: Sequence[str]
) -> list[TensorSpec]:
    """What a network that does not say it gives, by trying: a dimension that changes with the number of rows is -1.

    `run` takes arrays and gives arrays. Raises Invalid when it refuses the rows.
    """
    shapes = []
    for count in (2, 3):
        rows = [np.resize(array, (count, *array.shape[1:])) for array in example] if example else None
        rows = rows or made_up(inputs, count)
        if rows is None:
            raise Invalid("Its outputs cannot be found by trying: it takes text.", field="signature")
        try:
            found = run(rows)
        except Error:
            raise
        except Exception as error:
            text = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise Invalid(
                f"The model does not take what its signature says: {text[0][:300]}",
                field="signature",
                hint="Correct `inputs` in signature.json, or add an input_example.json with rows that it takes.",
            ) from error
        shapes.append([(array.shape, array.dtype) for array in found])
    specs = []
    for at, ((one, dtype), (other, _)) in enumerate(zip(*shapes, strict=True)):
        shape = tuple(-1 if a != b else a for a, b in zip(one, other, strict=True))
        name = names[at] if at < len(names) else f"output-{at}"
        specs.append(TensorSpec(name, datatype(str(dtype)), shape))
    return specs


def made_up(inputs: Sequence[TensorSpec], count: int) -> Arrays | None:
    """Rows for inputs of any shape from a fixed seed: normal numbers, 0 and 1 for whole ones (which every vocabulary has), bytes
    for images. None where an input is text."""
    size = sum(int(np.prod([_FREE if n == -1 else n for n in spec.shape[1:]])) for spec in inputs)
    count = max(2, min(count, _NUMBERS // max(size, 1))) if count > 1 else count
    random = np.random.default_rng(_SEED)
    arrays: Arrays = []
    for spec in inputs:
        shape = [_FREE if n == -1 else n for n in spec.shape]
        if spec.shape[:1] == (-1,):
            shape[0] = count
        kind = DTYPES[spec.datatype].kind
        if spec.datatype in ("BYTES", "BF16"):
            return None
        if spec.datatype == "UINT8":
            arrays.append(random.integers(0, 256, shape).astype(np.uint8))
        elif kind in "iub":
            arrays.append(random.integers(0, 2, shape).astype(DTYPES[spec.datatype]))
        else:
            arrays.append(random.normal(size=shape).astype(DTYPES[spec.datatype]))
    return arrays


def _named(inputs: tuple[TensorSpec, ...], said: Declared) -> tuple[TensorSpec, ...]:
    """The inputs under the names that the folder gives them. Raises Invalid for a declaration that they cannot have."""
    if not said.inputs:
        return inputs
    if len(said.inputs) != len(inputs):
        raise Invalid(
            f"signature.json names {len(said.inputs)} inputs; the model takes {len(inputs)}: "
            f"{', '.join(spec.name for spec in inputs)}.",
            field="signature",
        )
    order = {spec.name: spec for spec in said.inputs}
    chosen = [order[spec.name] for spec in inputs] if set(order) == {spec.name for spec in inputs} else said.inputs
    for own, told in zip(inputs, chosen, strict=True):
        if len(own.shape) != len(told.shape) or any(
            -1 not in (a, b) and a != b for a, b in zip(own.shape, told.shape, strict=True)
        ):
            raise Invalid(
                f"signature.json says {list(told.shape)} for the input '{told.name}'; the model takes {list(own.shape)}.",
                field="signature",
            )
    return tuple(dataclasses.replace(own, name=told.name) for own, told in zip(inputs, chosen, strict=True))


def _declared(spec: TensorSpec, at: int, said: Declared) -> TensorSpec:
    """An output under the name, and as flat, as the folder says."""
    told: DeclaredTensor | None = said.outputs[at] if at < len(said.outputs) else None
    labels = spec.labels or tuple(str(label) for label in said.classes)
    if told is not None:
        flat = spec.shape[:1] if len(told.shape) == 1 and spec.shape[1:] == (1,) else spec.shape
        default = spec.default if told.default is None else told.default
        spec = dataclasses.replace(spec, name=told.name, shape=flat, default=default)
        labels = told.labels or labels
    fits = len(spec.shape) == 2 and spec.shape[-1] == len(labels)
    return dataclasses.replace(spec, labels=labels if fits else ())


def _check(graph: Signature, wanted: Signature) -> None:
    """Raises Uncompiled for a graph that lost or renamed a tensor."""
    if [spec.name for spec in graph.inputs] != [spec.name for spec in wanted.inputs]:
        raise Uncompiled("its ONNX form takes other inputs")
    kinds = {spec.name: spec.datatype for spec in graph.outputs}
    for spec in wanted.outputs:
        if kinds.get(spec.name) != spec.datatype:
            raise Uncompiled(f"its ONNX form gives '{spec.name}' as {kinds.get(spec.name, 'nothing')}")
