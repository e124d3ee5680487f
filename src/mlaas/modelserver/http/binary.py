"""The binary tensor data extension: a JSON header of `Inference-Header-Content-Length` bytes, then the buffers of the inputs
in their order, each as long as its `binary_data_size` says. A length of 0 is a raw body: the one input of the model, without
JSON."""

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.http.body import InputPart
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.tensors import DTYPES, Tensor, elements, from_bytes


class Binary:
    """A body in two parts. `header` is the JSON; `tensor` takes the buffers one after the other, as views of the body."""

    def __init__(self, length: bytes, body: bytes | bytearray) -> None:
        text = length.strip()
        if not text.isdigit() or len(text) > 12 or int(text) > len(body):
            raise Malformed(
                f"Inference-Header-Content-Length is {length.decode('latin-1')[:40]!r};"
                f" it is the number of JSON bytes at the start of the body, which has {len(body)}."
            )
        size = int(text)
        view = memoryview(body)
        self.header = view[:size]
        self.raw = size == 0
        self._rest = view[size:]
        self._offset = 0

    def tensor(self, part: InputPart) -> Tensor | None:
        """The tensor whose bytes follow; None for one whose data is in the JSON."""
        size = part.parameters.get("binary_data_size") if part.parameters else None
        if size is None:
            return None
        if len(part.data):
            raise Invalid(f"The input '{part.name}' has data in the JSON and a binary_data_size.", field=part.name)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise Invalid(
                f"The binary_data_size of input '{part.name}' is {size!r}, not a number of bytes.", field=part.name
            )
        end = self._offset + size
        if end > len(self._rest):
            raise Invalid(
                f"The input '{part.name}' has {size} bytes by its binary_data_size;"
                f" {len(self._rest) - self._offset} are left in the body.",
                field=part.name,
            )
        buffer = self._rest[self._offset : end]
        self._offset = end
        return from_bytes(part.name, part.datatype, _known(part, size), buffer)

    def finish(self) -> None:
        """Raises Invalid when bytes are left that no input has taken."""
        if self._offset != len(self._rest):
            raise Invalid(f"{len(self._rest) - self._offset} bytes of the body belong to no input's binary_data_size.")

    def single(self, signature: Signature) -> list[Tensor]:
        """The one input that a raw body is. Its only unknown dimension is found from the length; a BYTES input is one element,
        the body itself. Raises Invalid for a model with several inputs."""
        if len(signature.inputs) != 1:
            raise Invalid(f"A raw body is one input; the model takes {len(signature.inputs)}.", field="inputs")
        spec = signature.inputs[0]
        if spec.datatype == "BYTES":
            import numpy as np

            array = np.empty(1, dtype=object)
            array[0] = bytes(self._rest)
            return [Tensor(spec.name, array.reshape([1] * len(spec.shape)), "BYTES")]
        width = DTYPES[spec.datatype].itemsize
        known = elements([size for size in spec.shape if size != -1]) * width
        shape = list(spec.shape)
        unknown = [axis for axis, size in enumerate(shape) if size == -1]
        for axis in unknown[1:]:
            shape[axis] = 1
        if unknown:
            if known == 0 or len(self._rest) % known:
                raise Invalid(
                    f"The body has {len(self._rest)} bytes; input '{spec.name}' of {spec.datatype} {list(spec.shape)}"
                    f" takes a multiple of {known}.",
                    field=spec.name,
                )
            shape[unknown[0]] = len(self._rest) // known
        return [from_bytes(spec.name, spec.datatype, shape, self._rest)]


def _known(part: InputPart, size: int) -> list[int]:
    """The shape with a single -1 inferred from the number of bytes (not for BYTES, whose elements differ in length)."""
    dtype = DTYPES.get(part.datatype)
    if part.shape.count(-1) != 1 or dtype is None or part.datatype == "BYTES":
        return part.shape
    rest = elements([length for length in part.shape if length != -1]) * dtype.itemsize
    if rest <= 0 or size % rest:
        return part.shape
    return [size // rest if length == -1 else length for length in part.shape]
