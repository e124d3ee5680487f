"""What a resource was written as, when that was a manifest of another system."""

from typing import Annotated, Any

from pydantic import Field

from mlaas.kernel.resource import Spec


class Manifest(Spec):
    """Kept in the resource's spec, so that it can be shown back as it was while the rest of the spec is what it became."""

    api_version: Annotated[str, Field(max_length=200)]
    kind: Annotated[str, Field(max_length=100)]
    annotations: dict[str, str] = Field(default_factory=dict)
    spec: dict[str, Any] = Field(default_factory=dict)
    digest: Annotated[str, Field(max_length=64, description="Of the spec that it became.")] = ""
