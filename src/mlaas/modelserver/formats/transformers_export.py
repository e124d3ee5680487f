"""A transformer to its compiled form: the network to ONNX, the tokenizer as it is, and the proof that they answer alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import objectives, text
from mlaas.modelserver.formats.base import INT8, Uncompiled
from mlaas.modelserver.formats.transformers_int8 import Gate
from mlaas.modelserver.formats.transformers_model import TextModel

ABSOLUTE, RELATIVE = 1e-4, 1e-4
"""How far the network's outputs (logits, states) may be from torch's: `ABSOLUTE + RELATIVE * |torch|`. Labels, spans and entities
have to be equal."""
_DIRECT = 1 << 30  # bytes of weights up to which they lie in the graph's own file


class Model(TextModel):
    """With its compiled form."""

    def compile(self, target: Path) -> dict[str, Any]:
        return export(self, target)

    def agree(self, document: Mapping[str, Any], target: Path) -> dict[str, Any]:
        return compare(self, document, target)


def export(model: TextModel, target: Path) -> dict[str, Any]:
    """Write `model.onnx` and `tokenizer.json`. Raises Uncompiled."""
    if model.device != "cpu":
        raise Uncompiled("it runs on a GPU in torch")
    backend = getattr(model.tokens, "backend_tokenizer", None)
    if backend is None:
        raise Uncompiled("its tokenizer has no form that the library `tokenizers` reads")
    if model.facts["objective"] == "no-objective" and model.pooling.dense:
        raise Uncompiled("its pooling has dense layers")
    asked = model.options.get(INT8)
    gate = Gate(asked, model.signature, model.root) if asked else None
    from tokenizers import Tokenizer

    raw = Tokenizer.from_str(backend.to_str())
    raw.no_truncation()
    raw.no_padding()
    raw.save(str(target / text.TOKENIZER))
    _network(model, target / text.GRAPH)
    made: dict[str, Any] = {"kind": "text", "text": model.facts}
    if gate is not None:
        made["int8"] = gate.quantise(made, target)
    return made


def _network(model: TextModel, path: Path) -> None:
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


def compare(model: TextModel, document: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """How well the compiled form in `target` agrees. Raises Uncompiled saying where it does not."""
    compiled = text.objective_of(document, target)
    inputs = _taken(compiled, model.sample())
    given = [[item.decode() for item in each] for each in inputs]
    mine, theirs = compiled.tokenizer.encode(*given), model.objective.tokenizer.encode(*given)
    for place, (one, other) in enumerate(zip(mine, theirs, strict=True)):
        if list(one.ids) != list(other.ids) or list(one.type_ids) != list(other.type_ids):
            raise Uncompiled(f"the library `tokenizers` cuts the text {given[0][place][:60]!r} into other tokens")
    exact = not document.get("int8", {}).get("served")
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
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE} if exact else "int8: by the rows of its owner",
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


def _apart(compiled: objectives.Objective, model: TextModel, encodings: list[Any], exact: bool) -> float:
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
    if exact and [objectives.unscored(item) for item in one] != [objectives.unscored(item) for item in other]:
        raise Uncompiled(f"its output '{name}' is not that of torch")
    return 0.0
