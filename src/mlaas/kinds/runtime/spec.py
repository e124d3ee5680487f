"""The runtime of services: how models of some formats are served, said once for many services (KServe's ServingRuntime).

One in the project `system` is there for all projects (ClusterServingRuntime).
"""

from typing import Annotated, Any

from pydantic import Field

from mlaas.kernel.manifest import Manifest
from mlaas.kernel.resource import Kind, Spec


class ModelFormat(Spec):
    """A format that it serves. With `auto_select` it is taken for services that name the format and no runtime."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(max_length=100, description="Empty: any.")] = ""
    auto_select: bool = False
    priority: Annotated[int, Field(ge=0, le=1_000_000, description="The highest is taken.")] = 0


class RuntimeSpec(Spec):
    """`predictor` has fields of a service's predictor, which services of this runtime begin with: environment, trusted, device,
    format, options, workers, memory, timeout."""

    formats: Annotated[list[ModelFormat], Field(max_length=100)] = Field(default_factory=list)
    protocols: Annotated[
        list[Annotated[str, Field(max_length=20)]], Field(max_length=20, description="Empty: all.")
    ] = Field(default_factory=list)
    disabled: Annotated[bool, Field(description="True: no service takes it.")] = False
    predictor: dict[str, Any] = Field(default_factory=dict)
    manifest: Manifest | None = None


KIND = Kind(
    name="runtime",
    plural="runtimes",
    spec_type=RuntimeSpec,
    columns=(("DISABLED", "spec.disabled"), ("FORMATS", "spec.formats")),
    description="How models of some formats are served, said once for many services.",
)
