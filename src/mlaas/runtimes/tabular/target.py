"""The column to predict, checked: classes as codes, or numbers; and the weights of rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.tabular.table import first, number, present

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Classes:
    """The names of classes, text or whole numbers, sorted; a code is a place in them."""

    names: list[Any]

    @property
    def datatype(self) -> str:
        return "BYTES" if isinstance(self.names[0], str) else "INT64"

    def array(self) -> npt.NDArray[Any]:
        return np.array(self.names)

    def codes(self, values: pa.ChunkedArray, what: str) -> Codes:
        """Raises Invalid for a class that is not known."""
        found = pc.index_in(values, pa.array(self.names, values.type))
        unknown = pc.is_null(found)
        if pc.any(unknown).as_py():
            row = first(unknown)
            raise Invalid(
                f"{what} has the class {values[row - 1].as_py()!r} in row {row}, which no training row has.",
                field="target",
                hint=f"Training rows have {', '.join(repr(name) for name in self.names[:20])}.",
            )
        codes: Codes = found.to_numpy().astype(np.int64)
        return codes


def class_values(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of classes as text or whole numbers. Raises Invalid for a missing one (row) or a fraction."""
    present(table, name, "target")
    values = table.column(name)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int64())
    if pa.types.is_floating(values.type) and not pc.any(pc.not_equal(values, pc.floor(values))).as_py():
        _complete(pc.is_null(values, nan_is_null=True), name)
        values = values.cast(pa.int64())
    if pa.types.is_integer(values.type):
        values = values.cast(pa.int64())
        missing = pc.is_null(values)
    elif (
        pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type)
    ):
        values = values.cast(pa.string())
        missing = pc.equal(pc.fill_null(values, ""), "")
    else:
        raise Invalid(
            f"The target {name!r} holds {values.type}; a class is a text or a whole number.",
            field="target",
            hint="To predict a number, use a regressor.",
        )
    _complete(missing, name)
    return values


def classes(values: pa.ChunkedArray, name: str) -> Classes:
    """The classes of the training rows. Raises Invalid when there is but one, or nearly as many as rows."""
    names = sorted(pc.unique(values).to_pylist())
    if len(names) < 2:
        raise Invalid(
            f"The target {name!r} has one class only, {names[0]!r}: there is nothing to tell apart.",
            field="target",
            hint="Add rows of another class, or find what is unusual with an outlier detector such as "
            "sklearn.ensemble.IsolationForest.",
        )
    if len(names) > 20 and len(names) * 2 > len(values):
        raise Invalid(
            f"The target {name!r} has {len(names)} classes in {len(values)} rows.",
            field="target",
            hint="To predict a number, use a regressor; else name another column.",
        )
    return Classes(names)


def numbers(table: pa.Table, name: str) -> Numbers:
    """A column of numbers to predict. Raises Invalid for missing, infinite and non-numeric values (row)."""
    present(table, name, "target")
    values = number(table.column(name), name, "target", [])
    _complete(pc.is_null(values, nan_is_null=True), name)
    made: Numbers = values.cast(pa.float64()).to_numpy()
    if not np.isfinite(made).all():
        raise Invalid(
            f"The target {name!r} is infinite in row {int(np.argmin(np.isfinite(made))) + 1}.", field="target"
        )
    return made


def not_constant(values: Numbers, name: str) -> None:
    """Raises Invalid when all numbers to predict are the same."""
    if len(values) and float(np.ptp(values)) == 0.0:
        raise Invalid(
            f"The target {name!r} is {values[0]:g} in every row: there is nothing to learn.",
            field="target",
            hint="Name another column.",
        )


def anomalies(table: pa.Table, name: str) -> Codes:
    """A column that says which rows are outliers: true, 1 or -1 (scikit-learn's word) are, false and 0 are not."""
    values = class_values(table, name)
    found = set(pc.unique(values).to_pylist())
    if found <= {0, 1}:
        return values.to_numpy().astype(np.int64)  # type: ignore[no-any-return]
    if found <= {-1, 1}:
        return (values.to_numpy() == -1).astype(np.int64)  # type: ignore[no-any-return]
    raise Invalid(
        f"The target {name!r} does not say which rows are outliers.",
        field="target",
        hint="Write 1 for an outlier and 0 for any other row, or leave target out.",
    )


def weights(table: pa.Table, name: str) -> Numbers:
    """The weight of each row. Raises Invalid for missing, negative or infinite ones (row)."""
    present(table, name, "sample_weight")
    values = number(table.column(name), name, "sample_weight", [])
    made: Numbers = pc.fill_null(values.cast(pa.float64()), float("nan")).to_numpy()
    wrong = ~(np.isfinite(made) & (made >= 0))
    if wrong.any():
        raise Invalid(
            f"The weight {name!r} is missing, negative or infinite in row {int(np.argmax(wrong)) + 1}.",
            field="sample_weight",
            hint="A weight is a number from 0 on.",
        )
    if not made.any():
        raise Invalid(f"The weight {name!r} is 0 in every row.", field="sample_weight")
    return made


def _complete(missing: pa.ChunkedArray, name: str) -> None:
    count = pc.sum(missing).as_py() or 0
    if count:
        raise Invalid(
            f"The target {name!r} has no value in {count} row{'s' if count > 1 else ''}; the first is row {first(missing)}.",
            field="target",
            hint="Fill these rows or remove them.",
        )
