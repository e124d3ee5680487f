"""Programs, scripts and modules of torch as originals."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Opened, Uncompiled
from mlaas.modelserver.formats.datatypes import datatype
from mlaas.modelserver.formats.folder import Declared, declared, example
from mlaas.modelserver.formats.network import Arrays, Network, made_up, outputs_of
from mlaas.modelserver.formats.torch_graph import (
    arrays,
    device_of,
    export,
    export_program,
    export_script,
    flat,
    tensors,
)
from mlaas.modelserver.predictor import Signature, TensorSpec

PLATFORM = "pytorch_libtorch"
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def open_file(file: Path, kind: str, opened: Opened) -> Network:
    """The model of a file. Raises Invalid with the fix for one that torch cannot read or that does not say what it takes."""
    import torch

    said = declared(opened.root)
    device = device_of(opened.device)
    try:
        if kind == "program":
            return Program(_loaded(file, opened.trusted), device, opened, said)
        if kind == "script":
            return Script(torch.jit.load(str(file), map_location=device).eval(), device, opened, said)
        found = _unpickled(file, device)
    except Invalid:
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise Invalid(
            f"{file.name} cannot be read by torch {torch.__version__}: {text}",
            field="source",
            hint="Save it again with this version, or name its own: `environment.requirements: [torch==<version>]`.",
        ) from error
    if not isinstance(found, torch.nn.Module):
        what = "only weights" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise Invalid(
            f"{file.name} holds {what}, no model.",
            field="source",
            hint="Save the model itself: `torch.export.save(torch.export.export(model, args), 'model.pt2')`; or load the "
            "weights in a custom predictor (model.py).",
        )
    return Module(found.eval(), device, opened, said)


def _loaded(file: Path, trusted: bool) -> Any:
    """A program. Unless it is trusted, pickled weights and constants are read as tensors only, whatever torch would do."""
    import torch

    before = os.environ.get(_WEIGHTS_ONLY)
    if not trusted:
        os.environ[_WEIGHTS_ONLY] = "1"
    try:
        return torch.export.load(file)
    finally:
        if before is None:
            os.environ.pop(_WEIGHTS_ONLY, None)
        else:
            os.environ[_WEIGHTS_ONLY] = before


def _unpickled(file: Path, device: str) -> Any:
    import torch

    try:
        return torch.load(file, map_location=device, weights_only=False)  # only when trusted
    except (ModuleNotFoundError, AttributeError) as error:
        raise Invalid(
            f"{file.name} needs the code of its model's class: {error}.",
            field="source",
            hint="Save the model as a program with `torch.export.save`, which needs none; or serve it by a custom predictor "
            "(model.py) with the class beside it.",
        ) from error


class _Torch(Network):
    """`call` is the model as a function of tensors; `module` has its weights."""

    def __init__(
        self,
        module: Any,
        call: Callable[..., Any],
        device: str,
        opened: Opened,
        said: Declared,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self.module = module
        self.call = call
        self.device = device
        super().__init__(opened.root, said, inputs, outputs, PLATFORM)

    def _run(self, inputs: Arrays) -> Arrays:
        return _answers(self.call, inputs, self.device)[0]

    def _graph(self, file: Path) -> None:
        if self.device != "cpu":
            raise Uncompiled("it runs on a GPU in torch")
        specs, outputs = self.signature.inputs, [spec.name for spec in self.signature.outputs]
        free = [[at for at, size in enumerate(spec.shape) if size == -1] for spec in specs]
        self._export(made_up(specs, 3), file, [spec.name for spec in specs], outputs, free)

    def _export(self, rows: Arrays | None, file: Path, inputs: list[str], outputs: list[str], free: list[Any]) -> None:
        export(self.module, self.call, rows, file, inputs, outputs, free)


class Program(_Torch):
    """What `torch.export` saved: names, shapes and datatypes are its own."""

    def __init__(self, program: Any, device: str, opened: Opened, said: Declared) -> None:
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        module = program.module(check_guards=False)  # they are Python of the file's; shapes are checked before
        wanted = list(program.graph_signature.user_inputs)
        values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        inputs = [_spec(name, values.get(name)) for name in wanted]
        (ended,) = [node for node in program.graph.nodes if node.op == "output"]
        produced = {node.name: node.meta.get("val") for node in ended.args[0] if hasattr(node, "meta")}
        given = [name for name in program.graph_signature.user_outputs if isinstance(name, str)]
        names = _names(program.call_spec.out_spec, len(given))
        outputs = [_spec(name, produced.get(own)) for name, own in zip(names, given, strict=True)]
        self.program = program
        super().__init__(module, _positional(program, module), device, opened, said, inputs, outputs)

    def _export(self, rows: Arrays | None, file: Path, inputs: list[str], outputs: list[str], free: list[Any]) -> None:
        export_program(self.program, file, inputs, outputs)


class Script(_Torch):
    """TorchScript. ONNX is made by the exporter that knows it."""

    def __init__(self, module: Any, device: str, opened: Opened, said: Declared) -> None:
        arguments = [each.name for each in module.forward.schema.arguments[1:]]
        inputs = _told(opened, said, arguments)
        outputs = _tried(module, inputs, device, opened, said)
        super().__init__(module, module, device, opened, said, inputs, outputs)

    def _export(self, rows: Arrays | None, file: Path, inputs: list[str], outputs: list[str], free: list[Any]) -> None:
        export_script(self.module, rows, file, inputs, outputs, free)


class Module(_Torch):
    """A pickled module with its own code."""

    def __init__(self, module: Any, device: str, opened: Opened, said: Declared) -> None:
        inputs = _told(opened, said, [])
        outputs = _tried(module, inputs, device, opened, said)
        super().__init__(module, module, device, opened, said, inputs, outputs)


def _answers(call: Callable[..., Any], inputs: Arrays, device: str) -> tuple[Arrays, list[str]]:
    import torch

    with torch.inference_mode():
        found, names = flat(call(*tensors(inputs, device)))
        return arrays(found), names


def _spec(name: str, value: Any) -> TensorSpec:
    """Of a tensor that a program carries as an example. Raises Invalid for an input that is none."""
    if not hasattr(value, "shape"):
        raise Invalid(
            f"The program takes or gives '{name}', which is no tensor.",
            field="source",
            hint="Export it with tensors only; fix other arguments in its `forward`.",
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name, datatype(str(value.dtype)), shape)


def _names(structure: Any, count: int) -> list[str]:
    """Those of a program's outputs: the keys where it gives a dict, else output-0, output-1, ..."""
    context = getattr(structure, "context", None)
    if getattr(structure, "type", None) is dict and isinstance(context, list) and len(context) == count:
        return [str(name) for name in context]
    return [f"output-{at}" for at in range(count)]


def _positional(program: Any, module: Any) -> Callable[..., Any]:
    """The module as a function of its tensors in order; keyword arguments get theirs by name."""
    import torch.utils._pytree as pytree

    structure = program.call_spec.in_spec

    def call(*given: Any) -> Any:
        positional, named = pytree.tree_unflatten(list(given), structure)
        return module(*positional, **named)

    return call


def _told(opened: Opened, said: Declared, arguments: Sequence[str]) -> list[TensorSpec]:
    """The inputs of a model that does not say them itself. Raises Invalid showing what to write."""
    if said.inputs or said.tensors:
        return list(said.inputs or said.tensors)
    name = arguments[0] if len(arguments) == 1 else "input-0"
    for rank in (2, 3, 4, 1):
        guess = Signature((TensorSpec(name, "FP32", (-1,) * rank),), ())
        try:
            found = example(opened.root, guess)
        except ValueError:
            continue
        if found is not None and found[0].ndim == rank and len(arguments) <= 1:
            return [TensorSpec(name, "FP32", (-1, *found[0].shape[1:]))]
    shown = ", ".join(
        f'{{"name": "{each}", "datatype": "FP32", "shape": [-1, 4]}}' for each in arguments or ["input-0"]
    )
    raise Invalid(
        "A TorchScript or pickled module does not say the shape of what it takes.",
        field="signature",
        hint=f'Put a signature.json beside it: {{"inputs": [{shown}]}}; or export it with torch.export, which says it.',
    )


def _tried(module: Any, inputs: Sequence[TensorSpec], device: str, opened: Opened, said: Declared) -> list[TensorSpec]:
    names: list[str] = []

    def run(rows: Arrays) -> Arrays:
        found, own = _answers(module, rows, device)
        names[:] = own
        return found

    rows = example(opened.root, Signature(tuple(inputs), ()))
    specs = outputs_of(run, inputs, rows, ())
    return [
        TensorSpec(names[at] if at < len(names) else spec.name, spec.datatype, spec.shape)
        for at, spec in enumerate(specs)
    ]
