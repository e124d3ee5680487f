"""Bring a request's tensors to what a model takes: the V2 rules where clients and servers differ in practice.

A single input may have any name; a datatype is cast where every value has one there; a missing batch dimension of 1 is not
invented. What is wrong is said in terms of what the model expects. A signature without inputs takes anything.
"""

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Request, Signature, TensorSpec
from mlaas.modelserver.tensors import Tensor, cast


def conform(request: Request, signature: Signature) -> Request:
    """The same request, its inputs in the signature's order, with its names and datatypes.

    Raises Invalid for missing, doubled or unknown inputs, a shape or datatype that does not fit, unknown outputs, and inputs
    of a batched model whose batches differ.
    """
    specs = signature.inputs
    if not specs:  # takes anything: a transformer, a remote server that gives no metadata
        return request
    if len(specs) == 1 == len(request.inputs):
        tensors = [_fit(request.inputs[0], specs[0], signature)]
    else:
        tensors = _by_name(request.inputs, signature)
    request.inputs = tensors
    if request.outputs is not None:
        known = {output.name for output in signature.outputs}
        for name in request.outputs:
            if name not in known:
                raise Invalid(
                    f"There is no output '{name}'; the model gives {_names(signature.outputs)}.", field="outputs"
                )
    return request


def _by_name(inputs: list[Tensor], signature: Signature) -> list[Tensor]:
    sent: dict[str, Tensor] = {}
    known = {spec.name for spec in signature.inputs}
    for tensor in inputs:
        if tensor.name in sent:
            raise Invalid(f"The input '{tensor.name}' was sent twice.", field="inputs")
        if tensor.name not in known:
            raise Invalid(
                f"There is no input '{tensor.name}'; the model takes {_names(signature.inputs)}.", field="inputs"
            )
        sent[tensor.name] = tensor
    missing = [spec.name for spec in signature.inputs if spec.name not in sent]
    if missing:
        raise Invalid(
            f"The input '{missing[0]}' is missing; the model takes {_names(signature.inputs)}.", field="inputs"
        )
    tensors = [_fit(sent[spec.name], spec, signature) for spec in signature.inputs]
    if signature.batched and len({tensor.array.shape[0] for tensor in tensors if tensor.array.ndim}) > 1:
        raise Invalid("The inputs have different numbers of rows.", field="inputs")
    return tensors


def _fit(tensor: Tensor, spec: TensorSpec, signature: Signature) -> Tensor:
    shape, wanted = tensor.array.shape, spec.shape
    if len(shape) != len(wanted):
        raise Invalid(_shape_message(tensor, spec, signature), field=tensor.name)
    for got, want in zip(shape, wanted):  # noqa: B905  as long as each other
        if got != want and want != -1:
            raise Invalid(_shape_message(tensor, spec, signature), field=tensor.name)
    if tensor.datatype != spec.datatype:
        tensor = cast(tensor, spec.datatype)
    if tensor.name != spec.name:
        tensor = Tensor(spec.name, tensor.array, tensor.datatype)
    return tensor


def _shape_message(tensor: Tensor, spec: TensorSpec, signature: Signature) -> str:
    text = (
        f"Input '{tensor.name}' has the shape {list(tensor.array.shape)}; the model takes {list(spec.shape)}"
        " (-1: any size)."
    )
    if signature.features:
        text += f" Its {len(signature.features)} columns are {', '.join(signature.features[:40])}."
    return text


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs)
