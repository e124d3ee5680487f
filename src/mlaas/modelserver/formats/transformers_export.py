"""A transformer to its compiled form: the network to ONNX, the tokenizer as it is, and the proof that they answer alike."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import objectives, text
from mlaas.modelserver.formats.base import Uncompiled
from mlaas.modelserver.tensors import DTYPES

if TYPE_CHECKING:
    from mlaas.modelserver.formats.transformers_model import Model

ABSOLUTE, RELATIVE = 1e-4, 1e-4
"""How far the network's outputs (logits, states) may be from torch's: `ABSOLUTE + RELATIVE * |torch|`. Labels, spans and entities
have to be equal."""
_DIRECT = 1 << 30  # bytes of weights up to which they lie in the graph's own file


def export(model: "Model", target: Path) -> dict[str, Any]:
    """Write `model.onnx` and `tokenizer.json`. Raises Uncompiled."""
    if model.device != "cpu":
        raise Uncompiled("it runs on a GPU in torch")
    backend = getattr(model.tokens, "backend_tokenizer", None)
    if backend is None:
        raise Uncompiled("its tokenizer has no form that the library `tokenizers` reads")
    if model.facts["objective"] == "no-objective" and model.pooling.dense:
        raise Uncompiled("its pooling has dense layers")
    from tokenizers import Tokenizer

    raw = Tokenizer.from_str(backend.to_str())
    raw.no_truncation()
    raw.no_padding()
    raw.save(str(target / text.TOKENIZER))
    _network(model, target / text.GRAPH)
    made = {"kind": "text", "text": model.facts}
    asked = model.options.get("int8")
    if asked:
        made |= _int8(model, made, asked, target)
    return made


def _network(model: "Model", path: Path) -> None:
    import torch

    names, results = model.inputs, model.results

    class Wrapped(torch.nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.model

        def forward(self, *given: Any) -> tuple[Any, ...]:
            found = self.inner(**dict(zip(names, given, strict=True)))
            return tuple(getattr(found, of) for of in results.values())

    ids = np.ones((2, 9), dtype=np.int64) * min(5, model.model.config.vocab_size - 1)
    mask = np.ones((2, 9), dtype=np.int64)
    mask[1, 6:] = 0  # padding takes another way through some attentions
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    weights = sum(each.numel() * each.element_size() for each in model.model.parameters())
    try:
        with torch.inference_mode():
            torch.onnx.export(
                Wrapped().eval(),
                tuple(torch.from_numpy(given[name]) for name in names),
                str(path),
                input_names=list(names),
                output_names=list(results),
                dynamic_shapes=(tuple(sizes for _ in names),),
                external_data=weights > _DIRECT,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise Uncompiled(f"torch cannot export it to ONNX: {type(error).__name__}: {_first(error)}") from error


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:200]


def compare(model: "Model", document: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """How well the compiled form in `target` agrees. Raises Uncompiled saying where it does not."""
    compiled = text.objective_of(document, target)
    inputs = _taken(compiled, model.sample())
    given = [[item.decode() for item in each] for each in inputs]
    mine, theirs = compiled.tokenizer.encode(*given), model.objective.tokenizer.encode(*given)
    for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        if list(one.ids) != list(other.ids) or list(one.type_ids) != list(other.type_ids):
            raise Uncompiled(f"the library `tokenizers` cuts the text {given[0][place][:60]!r} into other tokens")
    exact = not document.get("int8")
    absolute = 0.0
    for batch in ([each] for each in theirs), (theirs,):
        for encodings in batch:
            absolute = max(absolute, _apart(compiled, model, encodings, exact))
    wanted = [spec.name for spec in model.signature.outputs]
    found = [objectives.respond(each, model.signature, inputs, wanted, {})[0] for each in (compiled, model.objective)]
    worst = 0.0
    for name, one, other in zip(wanted, *found, strict=True):
        worst = max(worst, _same(name, one, other, exact))
    return {
        "rows": len(inputs[0]),
        "source": "texts of several languages and lengths",
        "max_absolute": worst,
        "network_max_absolute": absolute,
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE} if exact else "int8, see the accuracy gate",
    }


def _taken(compiled: objectives.Objective, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The sample without texts that the model cannot take at all (a question longer than its longest input)."""
    kept = []
    for place in range(len(inputs[0])):
        try:
            compiled.tokenizer.encode(*([each[place].decode()] for each in inputs))
            kept.append(place)
        except Invalid:
            continue
    if not kept:
        raise Uncompiled("no sample text is short enough for it")
    return [each[kept] for each in inputs]


def _apart(compiled: objectives.Objective, model: "Model", encodings: list[Any], exact: bool) -> float:
    padded = compiled.padded(encodings)
    one, other = compiled.run(*padded), model.run(*padded)
    worst = 0.0
    for name, array in other.items():
        seen = padded[1].astype(bool) if array.shape[:2] == padded[1].shape else slice(None)
        mine, theirs = one[name][seen], array[seen]
        difference = np.abs(mine - theirs)
        if exact and (difference > ABSOLUTE + RELATIVE * np.abs(theirs)).any():
            raise Uncompiled(f"its {name} in ONNX Runtime are {difference.max():.2g} away from those in torch")
        worst = max(worst, float(difference.max(initial=0.0)))
    return worst


def _same(name: str, one: NDArray[Any], other: NDArray[Any], exact: bool) -> float:
    if one.dtype.kind == "f":
        difference = float(np.abs(one - other).max(initial=0.0))
        if exact and difference > ABSOLUTE + RELATIVE * float(np.abs(other).max(initial=0.0)):
            raise Uncompiled(f"its output '{name}' is {difference:.2g} away from torch's")
        return difference
    if exact and [_unscored(item) for item in one] != [_unscored(item) for item in other]:
        raise Uncompiled(f"its output '{name}' is not that of torch")
    return 0.0


def _unscored(item: Any) -> Any:
    """Without the scores of JSON, whose last digit may differ."""
    try:
        return _drop(json.loads(item))
    except (TypeError, ValueError):
        return item


def _drop(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop(each) for key, each in value.items() if key != "score"}
    return [_drop(each) for each in value] if isinstance(value, list) else value


def _int8(model: "Model", made: dict[str, Any], asked: Any, target: Path) -> dict[str, Any]:
    """Weights in 8 bits (dynamic, per channel) where the accuracy on the user's rows allows it.

    `{"rows": FILE, "max_drop": 0.01}`: FILE has a JSON object a line, with the model's inputs by name (or `text`) and, if it is
    to be compared with the truth, `label`. Without labels, the share of answers that stay as they are counts.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("rows"), str):
        raise Invalid('int8 takes {"rows": FILE, "max_drop": 0.01}.', field="options.int8")
    limit = float(asked.get("max_drop", 0.01))
    inputs, labels = _rows(model, asked["rows"])
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole, small = target / text.GRAPH, target / "int8.onnx"
    plain = text.objective_of(made, target)
    quantize_dynamic(str(whole), str(small), per_channel=True, weight_type=QuantType.QInt8)
    quick = type(plain)(plain.facts, plain.tokenizer, text.Network(small))
    before, after = (_accuracy(each, model, inputs, labels) for each in (plain, quick))
    if labels is None:
        drop = 1.0 - _agreement(before, after)
        gate = {"rows": len(inputs[0]), "agreement": round(1.0 - drop, 6), "max_drop": limit}
    else:
        drop = before - after
        gate = {"rows": len(inputs[0]), "fp32": round(before, 6), "int8": round(after, 6), "max_drop": limit}
    if drop > limit:
        small.unlink()
        return {"int8": False, "int8_gate": gate}
    whole.unlink()
    small.rename(whole)
    return {"int8": True, "int8_gate": gate}


def _rows(model: "Model", file: str) -> tuple[list[NDArray[Any]], list[str] | None]:
    path = Path(file) if Path(file).is_absolute() else model.root / file
    names = [spec.name for spec in model.signature.inputs]
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        columns = [[str(row[name]) for row in rows] for name in names]
        labels = [str(row["label"]) for row in rows] if rows and all("label" in row for row in rows) else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Invalid(
            f"The rows for int8 in {path} cannot be read: {error!r}.",
            field="options.int8.rows",
            hint=f"A JSON object a line with {', '.join(names)} and, if there is one, label.",
        ) from error
    if not rows:
        raise Invalid(f"{path} has no rows.", field="options.int8.rows")
    arrays = []
    for column in columns:
        array = np.empty(len(column), dtype=DTYPES["BYTES"])
        array[:] = [item.encode() for item in column]
        arrays.append(array)
    return arrays, labels


def _accuracy(objective: objectives.Objective, model: "Model", inputs: list[NDArray[Any]], labels: Any) -> Any:
    """The share of right labels; without labels, the answers themselves."""
    name = model.signature.outputs[0].name
    (found,), _ = objectives.respond(objective, model.signature, inputs, [name], {})
    if labels is None:
        return found
    return float(np.mean([item.decode() == label for item, label in zip(found, labels, strict=True)]))


def _agreement(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Share of equal answers; of vectors, their mean cosine."""
    if before.dtype.kind == "f":
        lengths = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        return float(np.mean((before * after).sum(axis=-1) / np.maximum(lengths, 1e-12)))
    return float(np.mean([_unscored(one) == _unscored(other) for one, other in zip(before, after, strict=True)]))
