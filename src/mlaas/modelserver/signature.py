"""Signatures as JSON: in `signature.json` beside a custom predictor, in compiled folders, and between a worker and its front.

    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
     "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1], "default": true, "labels": ["a", "b"]}],
     "features": ["a", "b", "c", "d"], "batched": true, "platform": "custom", "properties": {}}

Only names, datatypes and shapes of inputs and outputs are needed. `{"free": true}` takes and gives anything (a transformer).
"""

from collections.abc import Mapping
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES


def to_json(signature: Signature) -> dict[str, Any]:
    """The whole signature as plain data."""
    if not signature.inputs and not signature.outputs:
        return {"free": True, "platform": signature.platform}
    return {
        "inputs": [_spec_to_json(spec) for spec in signature.inputs],
        "outputs": [_spec_to_json(spec) for spec in signature.outputs],
        "features": list(signature.features),
        "batched": signature.batched,
        "platform": signature.platform,
        "properties": dict(signature.properties),
    }


def from_json(document: Any, field: str = "signature", platform: str = "mlaas") -> Signature:
    """The signature that a document describes. Raises Invalid (field `field`) saying what is wrong with it."""
    if not isinstance(document, Mapping):
        raise Invalid("A signature is an object with `inputs` and `outputs`.", field=field)
    if document.get("free"):
        return Signature((), (), batched=False, platform=str(document.get("platform") or platform))
    unknown = set(document) - {"inputs", "outputs", "features", "batched", "platform", "properties"}
    if unknown:
        raise Invalid(f"A signature has no field '{sorted(unknown)[0]}'.", field=field)
    return Signature(
        inputs=_specs(document.get("inputs"), f"{field}.inputs"),
        outputs=_specs(document.get("outputs"), f"{field}.outputs"),
        features=tuple(str(name) for name in document.get("features") or ()),
        batched=bool(document.get("batched", True)),
        platform=str(document.get("platform") or platform),
        properties={str(key): str(value) for key, value in (document.get("properties") or {}).items()},
    )


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    document: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    if not spec.default:
        document["default"] = False
    if spec.labels:
        document["labels"] = list(spec.labels)
    return document


def _specs(items: Any, field: str) -> tuple[TensorSpec, ...]:
    if not isinstance(items, list | tuple) or not items:
        raise Invalid("It takes a list of tensors, each with name, datatype and shape.", field=field)
    specs = tuple(_spec(item, f"{field}.{i}") for i, item in enumerate(items))
    if len({spec.name for spec in specs}) < len(specs):
        raise Invalid("Two tensors have the same name.", field=field)
    return specs


def _spec(item: Any, field: str) -> TensorSpec:
    if isinstance(item, TensorSpec):
        return item
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item["name"]:
        raise Invalid("A tensor has a name, a datatype and a shape.", field=field)
    shape, datatype = item.get("shape"), item.get("datatype")
    if datatype not in DTYPES:
        raise Invalid(
            f"'{item['name']}' has the datatype {datatype!r}; the datatypes are {', '.join(DTYPES)}.", field=field
        )
    if not isinstance(shape, list | tuple) or any(type(size) is not int or size < -1 for size in shape):
        raise Invalid(f"'{item['name']}' has no shape of whole numbers (-1: any size).", field=field)
    labels = tuple(str(label) for label in item.get("labels") or ())
    return TensorSpec(item["name"], datatype, tuple(shape), bool(item.get("default", True)), labels)
