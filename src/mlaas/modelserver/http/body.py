"""The JSON of an inference request of the Open Inference Protocol, as far as it is read without knowing the model."""

import msgspec

Scalar = str | int | float | bool
_EMPTY = msgspec.Raw(b"")


class InputPart(msgspec.Struct):
    """One of a request's `inputs`. `data` is read once its datatype is known."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = _EMPTY
    parameters: dict[str, Scalar] | None = None


class OutputPart(msgspec.Struct):
    """One of a request's `outputs`."""

    name: str
    parameters: dict[str, Scalar] | None = None


class Body(msgspec.Struct):
    """An inference request."""

    inputs: list[InputPart]
    id: str = ""
    parameters: dict[str, Scalar] | None = None
    outputs: list[OutputPart] | None = None
