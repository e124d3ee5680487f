"""`MLmodel`: the file in which MLflow describes a model. Its flavours, its signature, its input example.

Columns of numbers become the names of one matrix' columns; columns of several types become an input each, as do named tensors.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.datatypes import datatype
from mlaas.modelserver.predictor import TensorSpec

FILE = "MLmodel"
_LARGEST = 16 << 20
_TYPES = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64", "string": "BYTES",
    "binary": "BYTES", "datetime": "BYTES",
}  # fmt: skip
_NUMBERS = frozenset({"integer", "long", "float", "double", "boolean"})


class Column(msgspec.Struct, kw_only=True):
    """A column of a table."""

    type: str
    name: str = ""
    required: bool = True


class Schema(msgspec.Struct, kw_only=True):
    """What a model takes or gives: columns, or tensors whose names may be ""."""

    columns: list[Column] = msgspec.field(default_factory=list)
    tensors: list[TensorSpec] = msgspec.field(default_factory=list)

    @property
    def numbers(self) -> bool:
        """Whether it is a table of numbers only."""
        return bool(self.columns) and all(column.type in _NUMBERS for column in self.columns)

    def specs(self, shape: tuple[int, ...], usual: str) -> list[TensorSpec]:
        """A tensor a column (of this shape), or the tensors; what has no name gets the usual one."""
        if self.tensors:
            return [
                spec
                if spec.name
                else TensorSpec(usual if len(self.tensors) == 1 else f"{usual}-{at}", spec.datatype, spec.shape)
                for at, spec in enumerate(self.tensors)
            ]
        several = len(self.columns) > 1
        return [
            TensorSpec(column.name or (f"{usual}-{at}" if several else usual), _TYPES[column.type], shape)
            for at, column in enumerate(self.columns)
        ]


def folder_of(path: Path) -> Path | None:
    """The MLflow folder that a file or folder of a model lies in (or is); None where there is none, or none that this process
    may read."""
    for folder in (path, *path.parents[:3]):
        try:
            with (folder / FILE).open("rb"):
                return folder
        except OSError:
            continue
    return None


def read(folder: Path) -> Mapping[str, Any]:
    """The document. Raises Invalid for one that is broken."""
    file = folder / FILE
    yaml = import_module("yaml")
    try:
        if file.stat().st_size > _LARGEST:
            raise Invalid(f"{FILE} is too large to describe a model.", field="source")
        found = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{FILE} is broken: {' '.join(str(error).split())[:300]}", field="source") from None
    if not isinstance(found, dict) or not isinstance(found.get("flavors"), dict):
        raise Invalid(f"{FILE} names no flavors: it describes no model.", field="source")
    return found


def schema(document: Mapping[str, Any], of: str) -> Schema:
    """The signature's `inputs` or `outputs`; empty where it has none. Raises Invalid for one that V2 cannot say."""
    signature = document.get("signature") or {}
    written = signature.get(of) if isinstance(signature, dict) else None
    if not written:
        return Schema()
    try:
        items = json.loads(written) if isinstance(written, str) else written
        made = Schema()
        for item in items:
            if item["type"] == "tensor":
                spec = item["tensor-spec"]
                made.tensors.append(TensorSpec(str(item.get("name") or ""), _word(spec["dtype"]), tuple(spec["shape"])))
            else:
                made.columns.append(
                    Column(type=_known(item), name=str(item.get("name") or ""), required=item.get("required", True))
                )
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"The signature in {FILE} cannot be used: {error!r}.", field="signature") from None
    return made


def params(document: Mapping[str, Any]) -> list[str]:
    """The names of the parameters that a request may give."""
    signature = document.get("signature") or {}
    try:
        return [str(item["name"]) for item in json.loads(signature.get("params") or "[]")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _word(dtype: str) -> str:
    return datatype("string" if dtype == "str" else dtype)


def _known(item: Mapping[str, Any]) -> str:
    if item["type"] not in _TYPES:
        raise Invalid(
            f"The signature in {FILE} has '{item.get('name', '')}' of the type {item['type']}, which V2 has no tensor for.",
            field="signature",
            hint="Give the model columns of plain types, or tensors.",
        )
    return str(item["type"])
