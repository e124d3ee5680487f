"""What KServe has no field for, and how a manifest is kept beside the spec that it became."""

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import BaseModel

from mlaas.interop.foreign import Notes
from mlaas.interop.kserve import OVERLAY
from mlaas.kernel import body
from mlaas.kernel.errors import Error
from mlaas.kernel.manifest import Manifest
from mlaas.kernel.mergepatch import difference
from mlaas.kernel.resource import Json
from mlaas.kernel.validation import validated

_WHERE = f"metadata.annotations[{OVERLAY}]"
_SILENT = frozenset(f"serving.kserve.io/{name}" for name in ("enable-prometheus-scraping", "enable-metric-aggregation"))


def overlay(annotations: dict[str, str], notes: Notes) -> Json:
    """The merge patch that the annotation `mlaas/spec` holds; empty where there is none."""
    text = annotations.get(OVERLAY)
    if text is None:
        return {}
    try:
        found = body.parse(text.encode(), "application/yaml")
    except Error as error:
        notes.refuse(_WHERE, error.message)
        return {}
    if not isinstance(found, dict):
        notes.refuse(_WHERE, "must be an object, for example '{access: public}'")
        return {}
    return found


def annotated(annotations: dict[str, str], notes: Notes, used: Iterable[str] = ()) -> None:
    """Name the annotations that change what KServe does and nothing here."""
    for key, value in annotations.items():
        where = f"metadata.annotations[{key}]"
        if key == "serving.kserve.io/stop" and value == "true":
            notes.refuse(where, "a service cannot be stopped here", "Delete it, or let it go to zero: minReplicas: 0.")
        elif key.startswith("serving.kserve.io/") and key not in _SILENT and key not in used:
            notes.warn(where, "not used: there is no such setting here")


def kept(
    api_version: str, kind: str, annotations: dict[str, str], spec: Json, became: Json, model: type[BaseModel]
) -> Json:
    """The spec that the manifest became, with the manifest in it. Raises Invalid where the spec is none."""
    checked = validated(model, became, "spec")
    manifest = {
        "api_version": api_version,
        "kind": kind,
        "annotations": annotations,
        "spec": spec,
        "digest": digest(checked),
    }
    return {**became, "manifest": manifest}


def digest(spec: BaseModel) -> str:
    """Of a spec without its manifest. What is at its default counts as left out."""
    return hashlib.sha256(orjson.dumps(plain(spec), option=orjson.OPT_SORT_KEYS)).hexdigest()


def plain(spec: BaseModel) -> Json:
    """The spec without its manifest and without what is at its default."""
    found: Json = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"manifest"})
    return found


def verbatim(spec: BaseModel, manifest: Manifest | None, kind: str) -> tuple[Json, dict[str, str]] | None:
    """Spec and annotations as they were written; None when they say no longer what is there."""
    if manifest is None or manifest.kind != kind or manifest.digest != digest(spec):
        return None
    return manifest.spec, dict(manifest.annotations)


def with_rest(annotations: dict[str, str], said: Json, spec: BaseModel) -> dict[str, str]:
    """The annotations, with what of the spec the manifest does not say by its fields. `said` is what it says."""
    rest: Any = difference(said, plain(spec))
    found = {key: value for key, value in annotations.items() if key != OVERLAY}
    if rest:
        found[OVERLAY] = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode()
    return found
