"""Parameters of the recipe `script`: a foreign command in a confined process. Schema only."""

from typing import Annotated

from pydantic import Field, WithJsonSchema

from mlaas.runtimes.data.spec import Source, Strict


class ScriptParams(Strict):
    """`command` is executed as it stands (no shell). `env` is added to a small fixed environment. `inputs` are laid into
    `inputs/NAME` of the working folder; what the command leaves in `output/` is kept."""

    # The kernel's limit of one argument (MAX_ARG_STRLEN, execve(2)) is checked, but not published: generated examples of that
    # length would make bodies that are too large.
    command: list[Annotated[str, Field(max_length=131_072), WithJsonSchema({"type": "string"})]] = Field(
        min_length=1, max_length=1000
    )
    env: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, Source] = Field(default_factory=dict)
