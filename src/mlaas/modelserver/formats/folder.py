"""Files of a model's folder: the model file itself, and the `signature.json` and `input_example.json` that may lie beside it.

`signature.json`: `{"inputs": [{"name", "datatype", "shape"}], "outputs": [the same, and "default", "labels"], "features":
[names of the columns], "classes": [labels], "task": "classification" | "regression" | ...}`, each key optional.
`input_example.json`: a list of rows (lists, or objects by column), or `{"instances": rows}`, `{"rows": rows}`, or V2's
`{"inputs": [...]}`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES


class DeclaredTensor(msgspec.Struct, kw_only=True):
    """A tensor as `signature.json` declares it; `default` None: not said."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    default: bool | None = None
    labels: tuple[str, ...] = ()


class Declared(msgspec.Struct, kw_only=True):
    """What a folder's `signature.json` declares; all of it may be left out."""

    inputs: list[TensorSpec] = msgspec.field(default_factory=list)
    outputs: list[DeclaredTensor] = msgspec.field(default_factory=list)
    features: list[str] = msgspec.field(default_factory=list)
    classes: list[Any] = msgspec.field(default_factory=list)
    task: str = ""
    model: dict[str, Any] = msgspec.field(default_factory=dict)
    tensors: list[TensorSpec] = msgspec.field(default_factory=list)
    """What the model takes, for those formats that do not know it themselves; their names are nobody's."""


def model_file(root: Path, names: Sequence[str], suffixes: Sequence[str]) -> Path | None:
    """The model file: `root` itself, a file of one of these names in it, the only one with one of these suffixes, or the same in
    its highest numbered version folder (Triton's layout). None when there is none.

    Raises Invalid when several files could be it.
    """
    if root.is_file():
        return root if root.suffix in suffixes else None
    for folder in (root, *numbered(root)):
        for name in names:
            if (folder / name).is_file():
                return folder / name
        fitting = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
        if len(fitting) > 1:
            listed = ", ".join(path.name for path in fitting[:12])
            raise Invalid(
                f"{root.name} holds {len(fitting)} models: {listed}.",
                field="source",
                hint=f"Name the file itself, or call the one to serve {names[0]}.",
            )
        if fitting:
            return fitting[0]
    return None


def has_file(root: Path, names: Sequence[str], suffixes: Sequence[str]) -> bool:
    """Whether `model_file` finds something (several count too)."""
    try:
        return model_file(root, names, suffixes) is not None
    except Invalid:
        return True


def head(path: Path, size: int = 64) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(size)


def declared(root: Path) -> Declared:
    """The folder's `signature.json`, else what MLflow says of it, else nothing. Raises Invalid, naming the place, for one that
    cannot be used."""
    path = _beside(root, "signature.json")
    if path is None:
        return _of_mlflow(root)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Declared)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"signature.json cannot be used: {error}.", field="signature") from None
    for name, datatype in [(each.name, each.datatype) for each in found.inputs] + [
        (each.name, each.datatype) for each in found.outputs
    ]:
        if datatype not in DTYPES:
            raise Invalid(
                f"signature.json: '{name}' has the datatype '{datatype}'; there are {', '.join(DTYPES)}.",
                field="signature",
            )
    return found


def _of_mlflow(root: Path) -> Declared:
    from mlaas.modelserver.formats import mlflow_signature

    folder = mlflow_signature.folder_of(root)
    if folder is None:
        return Declared()
    document = mlflow_signature.read(folder)
    taken = mlflow_signature.schema(document, "inputs")
    if taken.numbers:
        return Declared(features=[column.name for column in taken.columns if column.name])
    if len(taken.columns) > 1:
        return Declared(inputs=taken.specs((-1, 1), "input"), features=[column.name for column in taken.columns])
    named = [spec for spec in taken.tensors if spec.name]
    if named and len(named) == len(taken.tensors):
        return Declared(inputs=named)
    return Declared(tensors=taken.specs((-1, 1), "input-0")) if taken.tensors else Declared()


def example(root: Path, signature: Signature) -> list[NDArray[Any]] | None:
    """The rows of `input_example.json` as arrays of the signature's inputs; None without one, or when it does not fit."""
    path = _beside(root, "input_example.json")
    if path is None:
        return None
    try:
        content = msgspec.json.decode(path.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("inputs"), list):
            tensors = {item["name"]: item["data"] for item in content["inputs"]}
            return [
                to_array(tensors[spec.name], spec).reshape([-1, *spec.shape[1:]] if spec.shape else [])
                for spec in signature.inputs
            ]
        if isinstance(content, dict) and "columns" in content:  # as pandas splits a table, and MLflow keeps one
            content = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
        elif isinstance(content, dict):
            content = content.get("instances") or content["rows"]
        rows = [[np.nan if cell is None else cell for cell in row] if isinstance(row, list) else row for row in content]
        return from_rows(rows, signature)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, IndexError):
        return None


def from_rows(rows: Sequence[Any], signature: Signature) -> list[NDArray[Any]]:
    """Arrays of the signature's inputs from rows: lists in the order of the columns, or objects by column.

    Raises ValueError, KeyError or TypeError for rows that do not fit.
    """
    if len(signature.inputs) > 1:
        arrays = []
        for index, spec in enumerate(signature.inputs):
            column = [row[spec.name] if isinstance(row, dict) else row[index] for row in rows]
            arrays.append(to_array(column, spec).reshape([len(rows), *spec.shape[1:]]))
        return arrays
    (spec,) = signature.inputs
    data = [[row[name] for name in signature.features] if isinstance(row, dict) else row for row in rows]
    return [to_array(data, spec).reshape([len(rows), *spec.shape[1:]])]


def to_array(data: Any, spec: TensorSpec) -> NDArray[Any]:
    """An array of the input's datatype; text of a BYTES input becomes bytes."""
    if spec.datatype == "BYTES":
        flat = np.array(data, dtype=object)
        items = [str(item).encode() for item in flat.reshape(-1)]
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return array.reshape(flat.shape)
    return np.ascontiguousarray(data, dtype=DTYPES[spec.datatype])


def _beside(root: Path, name: str) -> Path | None:
    """A file that describes a model: in its folder, in a version of that, or in the MLflow folder around it."""
    from mlaas.modelserver.formats import mlflow_signature

    folder = root.parent if root.is_file() else root
    around = mlflow_signature.folder_of(folder)
    places = [folder, *numbered(folder), *([around] if around is not None else [])]
    return next((place / name for place in places if (place / name).is_file()), None)


def numbered(folder: Path) -> list[Path]:
    """The version folders in a folder (their names are whole numbers), the highest first."""
    if folder.is_file():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(numbered, key=lambda path: int(path.name), reverse=True)
