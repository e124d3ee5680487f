"""The project: whose resources these are, and how much of the machine they may take together."""

from typing import Annotated, Literal

from pydantic import Field

from mlaas.kernel.resource import Kind, Spec
from mlaas.kinds.project.guard import check_delete

Role = Literal["viewer", "editor", "admin"]


class Member(Spec):
    """One member: the name of a token's principal and what it may do here."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    role: Role = "editor"


class ProjectSpec(Spec):
    description: Annotated[str, Field(max_length=10_000)] = ""
    members: Annotated[list[Member], Field(max_length=10_000)] = Field(default_factory=list)


KIND = Kind(
    name="project",
    plural="projects",
    spec_type=ProjectSpec,
    scope="platform",
    columns=(("DESCRIPTION", "spec.description"),),
    description="A group of people with their resources.",
    validate_delete=check_delete,
)
