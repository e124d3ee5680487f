"""The datatypes of frameworks in V2's words."""

from mlaas.kernel.errors import Invalid

_WORDS = {
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64", "bool": "BOOL", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", "string": "BYTES", "object": "BYTES", "str": "BYTES",
}  # fmt: skip


def datatype(name: str) -> str:
    """V2's word for a framework's. Raises Invalid for one that has none."""
    word = _WORDS.get(name.rpartition(".")[2])
    if word is None:
        raise Invalid(f"V2 has no datatype for tensors of {name}.", field="source")
    return word
