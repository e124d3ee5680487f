"""A compiled folder as a predictor in this process. Imports nothing of the model's framework."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mlaas.kernel.errors import Invalid
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.compiled import program
from mlaas.modelserver.compiled.predictor import Compiled
from mlaas.modelserver.compiled.program import Answer
from mlaas.modelserver.predictor import Predictor

DOCUMENT = "compiled.json"


def document_of(folder: Path) -> dict[str, Any]:
    """The folder's `compiled.json`. Raises FileNotFoundError, or Invalid for one that is broken."""
    data = (folder / DOCUMENT).read_bytes()
    try:
        found = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Invalid(f"{folder / DOCUMENT} is broken: {error}.", field="source") from None
    return found


def answer_of(document: Mapping[str, Any], folder: Path, source: Path) -> Answer:
    """The function of arrays of a compiled model. `source` is the original's folder or file."""
    if document["kind"] == "program":
        return program.build(document, folder)
    if document["kind"] == "onnx":
        from mlaas.modelserver.compiled import native

        if document.get("own"):  # converted: in the compiled folder
            return native.answer_of(native.session_of(folder / document["file"]), document.get("flat") or ())
        return native.answer_of(native.session_of(source if source.is_file() else source / document["file"]))
    raise Invalid(f"There is no compiled form '{document['kind']}'.", field="source")


def predictor_of(document: Mapping[str, Any], folder: Path, source: Path) -> Predictor:
    """The model, ready to answer."""
    began = time.perf_counter()
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    names = ("format", "kind", "parity", "versions", "warnings", "cost", "int8")
    status = {"compiled": True, **{name: document[name] for name in names if name in document}}
    if document["kind"] == "text":
        from mlaas.modelserver.compiled import text

        objective = text.objective_of(document, folder, text.threads())
        status["load_ms"] = round(1e3 * (time.perf_counter() - began), 2)
        return text.Text(document, objective, status, size)
    answer = answer_of(document, folder, source)
    status["load_ms"] = round(1e3 * (time.perf_counter() - began), 2)
    return Compiled(signatures.from_json(document["signature"]), answer, document.get("cost", {}), status, size)
