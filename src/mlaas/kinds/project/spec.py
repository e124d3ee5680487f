"""The project: whose resources these are, and how much of the machine they may hold together."""

from typing import Annotated

from pydantic import Field

from mlaas.kernel.resource import Kind, Spec
from mlaas.kinds.project.guard import check_delete


class Quota(Spec):
    """The most that a project's admitted workloads may hold together; interactive ones are not counted. None: no limit."""

    cpu: Annotated[float, Field(gt=0, le=1e6, description="Cores.")] | None = None
    memory: Annotated[int, Field(gt=0, le=1 << 60, description="Bytes.")] | None = None
    gpu: Annotated[int, Field(ge=0, le=1 << 20, description="Accelerators.")] | None = None


class ProjectSpec(Spec):
    description: Annotated[str, Field(max_length=10_000)] = ""
    quota: Quota = Field(default_factory=Quota)


KIND = Kind(
    name="project",
    plural="projects",
    spec_type=ProjectSpec,
    scope="platform",
    columns=(("DESCRIPTION", "spec.description"),),
    description="Whose resources these are, and how much they may hold together.",
    validate_delete=check_delete,
)
