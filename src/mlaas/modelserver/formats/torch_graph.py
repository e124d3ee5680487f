"""Modules of torch as functions of arrays, and as ONNX: by torch's exporter, or for TorchScript by the one before it."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Uncompiled

_DIRECT = 1 << 30  # bytes of weights up to which they lie in the graph's own file


def device_of(wanted: str) -> str:
    """torch's word for a device: `auto` is a GPU where there is one. Raises Invalid for a GPU that is not there."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise Invalid(
            f"There is no device '{wanted}' here.", field="device", hint="`device: auto` takes a GPU if there is one."
        )
    return wanted


def tensors(arrays: Sequence[NDArray[Any]], device: str) -> list[Any]:
    """Arrays as tensors. Those of the wire may be read-only, which torch warns of: nothing writes into them."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]


def flat(given: Any) -> tuple[list[Any], list[str]]:
    """The tensors of an answer in order, and their names where it has some. Raises TypeError for what is none."""
    import torch

    if isinstance(given, torch.Tensor):
        return [given], []
    if hasattr(given, "to_tuple"):
        given = dict(given.items())
    if isinstance(given, dict):
        found, names = list(given.values()), [str(name) for name in given]
    elif isinstance(given, tuple | list):
        found, names = list(given), list(getattr(given, "_fields", ()))
    else:
        raise TypeError(f"it gives a {type(given).__name__} instead of tensors")
    for each in found:
        if not isinstance(each, torch.Tensor):
            raise TypeError(f"among its outputs is a {type(each).__name__}")
    return found, names


def arrays(found: Sequence[Any]) -> list[NDArray[Any]]:
    """Tensors as arrays."""
    return [each.detach().cpu().numpy() for each in found]


def export(
    module: Any,
    call: Callable[..., Any],
    rows: list[NDArray[Any]] | None,
    file: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: Sequence[Sequence[int]],
) -> None:
    """Write `call(*tensors)` of a module with weights as ONNX; `free` has the free dimensions of each input.

    Raises Uncompiled with torch's reason.
    """
    import torch

    class Wrapped(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, *given: Any) -> tuple[Any, ...]:
            return tuple(flat(call(*given))[0])

    weights = sum(each.numel() * each.element_size() for each in module.parameters())
    dynamic = tuple(dict.fromkeys(places, torch.export.Dim.DYNAMIC) for places in free)
    large = {"external_data": weights > _DIRECT, "dynamo": True}
    _write(Wrapped().eval(), _given(rows), file, inputs, outputs, dynamic_shapes=(dynamic,), **large)


def export_program(program: Any, file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write what `torch.export` gave as ONNX; its shapes are its own. Raises Uncompiled with torch's reason."""
    weights = sum(each.numel() * each.element_size() for each in program.state_dict.values())
    _write(program, (), file, inputs, outputs, external_data=weights > _DIRECT, dynamo=True)


def export_script(
    module: Any,
    rows: list[NDArray[Any]] | None,
    file: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: Sequence[Sequence[int]],
) -> None:
    """Write a TorchScript module as ONNX. Raises Uncompiled with torch's reason."""
    axes = {
        name: {place: f"{name}-{place}" for place in places}
        for name, places in zip(inputs, free, strict=True)
        if places
    }
    axes |= {name: {0: f"{name}-0"} for name in outputs} if axes else {}
    _write(module, _given(rows), file, inputs, outputs, dynamic_axes=axes, dynamo=False)


def _given(rows: list[NDArray[Any]] | None) -> tuple[Any, ...]:
    if rows is None:
        raise Uncompiled("there are no rows to trace it with: add an input_example.json")
    return tuple(tensors(rows, "cpu"))


def _write(
    model: Any, given: tuple[Any, ...], file: Path, inputs: Sequence[str], outputs: Sequence[str], **options: Any
) -> None:
    import torch

    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, given, str(file), input_names=list(inputs), output_names=list(outputs), verbose=False, **options
            )
    except Exception as error:
        raise Uncompiled(f"torch cannot export it to ONNX: {type(error).__name__}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """The first error of a chain says what it is about; those around it are torch's advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]
