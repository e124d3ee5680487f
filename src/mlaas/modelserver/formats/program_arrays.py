"""The arrays of a compiled program, and what its document says of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Arrays:
    """The arrays of a program by the names under which its document refers to them."""

    def __init__(self) -> None:
        self.held: dict[str, NDArray[Any]] = {}

    def add(self, array: Any) -> str:
        name = f"a{len(self.held)}"
        self.held[name] = np.ascontiguousarray(array)
        return name

    def write(self, target: Path) -> None:
        np.savez(target / "arrays.npz", **self.held)  # type: ignore[arg-type]


def class_document(classes: Any, arrays: Arrays) -> Any:
    """Labels as `heads.class_array` reads them."""
    classes = np.asarray(classes)
    if classes.dtype.kind in "USO":
        return [str(label) for label in classes]
    return arrays.add(classes.astype(np.int64) if classes.dtype.kind in "iu" else classes)
