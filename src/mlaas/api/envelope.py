"""Resources as users write them: `{kind, meta, spec}`, or `{apiVersion, kind, metadata, spec}` as on Kubernetes."""

import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import Json, Kind, Spec, check_name
from mlaas.kernel.validation import NAMED, Matching, validated

_NO_COMMA = "must have no comma and no control character, and a key no '=': labels are selected by key=value,key=value"
LabelKey = Annotated[str, Field(min_length=1, max_length=128), Matching(r"^[^\x00-\x1f,=]+$", _NO_COMMA)]
LabelValue = Annotated[str, Field(max_length=256), Matching(r"^[^\x00-\x1f,]*$", _NO_COMMA)]
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

# Accepted, so that what another tool wrote can be sent, and ignored.
_KUBERNETES_ONLY = {
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
}


class MetaInput(Spec):
    """What a user says of a resource beside its spec. Without a name one is made."""

    name: Annotated[str, Field(max_length=50), NAMED] | None = None
    project: Annotated[str, Field(max_length=50)] | None = None
    title: Annotated[str, Field(max_length=500)] | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] | None = None
    version: (
        Annotated[int, Field(ge=0, lt=1 << 63, description="The version that was read; 0 or none: any.")] | None
    ) = None
    uid: Any = Field(None, description="Set by the platform; ignored.")
    generation: Any = Field(None, description="Set by the platform; ignored.")
    created: Any = Field(None, description="Set by the platform; ignored.")
    deleted: Any = Field(None, description="Set by the platform; ignored.")
    finalizers: Any = Field(None, description="Set by the platform; ignored.")
    owner: Any = Field(None, description="Set by the platform; ignored.")


@dataclass(frozen=True, slots=True)
class Draft:
    """A resource as somebody wants it: `spec` in the words of its writer, checked. None: not said."""

    name: str | None
    project: str | None
    title: str | None
    labels: dict[str, str] | None
    version: int | None
    spec: Json


def input_model(kind: Kind) -> type[BaseModel]:
    """The schema of a request body of this kind."""
    return _input_model(kind.name, kind.spec_type, kind.description)


@lru_cache(maxsize=64)
def _input_model(name: str, spec_type: Any, description: str) -> type[BaseModel]:
    optional: Any = {
        "kind": (str | None, None),
        "schema_version": (int | None, None),
        "meta": (MetaInput, Field(default_factory=MetaInput)),
        "status": (Any, Field(None, description="Written by the platform; ignored.")),
    }
    required = any(field.is_required() for field in getattr(spec_type, "model_fields", {}).values())
    spec: Any = (spec_type, ... if required else Field(default_factory=dict, validate_default=True))
    return create_model(f"{name.capitalize()}Input", __base__=Spec, __doc__=description, spec=spec, **optional)


def read(document: Any, kind: Kind) -> Draft:
    """`document` as a draft of `kind`. Raises Invalid, with one entry for each wrong field."""
    if not isinstance(document, dict):
        raise Invalid(
            f"A {kind.name} is an object with 'meta' and 'spec', not {_json_type(document)}.",
            field="body",
            hint=f'Send JSON or YAML, for example {{"meta": {{"name": "my-{kind.name}"}}, "spec": {{}}}}.',
        )
    plain = normal(document)
    named = plain.get("kind")
    if named is not None and (not isinstance(named, str) or named.lower() != kind.name):
        raise Invalid(f"kind is '{str(named)[:80]}'; '{kind.name}' belongs here.", field="kind")
    model: Any = validated(input_model(kind), plain)
    meta: MetaInput = model.meta
    if meta.name is not None:
        check_name(meta.name)
    return Draft(meta.name, meta.project, meta.title, meta.labels, meta.version or None, written(model.spec))


def normal(document: Json) -> Json:
    """The document in our own form: `metadata` becomes `meta`, `namespace` `project`; the rest stays to be checked."""
    plain = {key: value for key, value in document.items() if key != "apiVersion"}
    if "metadata" not in plain:
        return plain
    if "meta" in plain:
        raise Invalid("Either 'meta' or 'metadata', not both.", field="metadata")
    metadata = plain.pop("metadata")
    if isinstance(metadata, dict):
        metadata = {key: value for key, value in metadata.items() if key not in _KUBERNETES_ONLY}
        if "namespace" in metadata:
            metadata.setdefault("project", metadata.pop("namespace"))
    return {**plain, "meta": metadata}


def written(spec: BaseModel) -> Json:
    """The spec in normal form, without what its writer left to the defaults."""
    document: Json = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return document


def generated_name(kind: Kind, spec: Json) -> str:
    """A name that is most likely free: the recipe's (or the kind's) and five letters that spell no word."""
    stem = spec.get("recipe")
    stem = stem if isinstance(stem, str) and stem.isalpha() and len(stem) < 30 else kind.name
    return f"{stem}-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"


def _json_type(value: Any) -> str:
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", type(None): "null"}
    return names.get(type(value), "that")
