"""Parameters of the recipe `script`: a foreign command in a confined process. Schema only."""

from typing import Annotated

from pydantic import Field

from mlaas.runtimes.data.spec import Source, Strict


class ScriptParams(Strict):
    """`command` is executed as it stands (no shell). `env` is added to a small fixed environment. `inputs` are laid into
    `inputs/NAME` of the working folder; what the command leaves in `output/` is kept."""

    command: list[Annotated[str, Field(max_length=131_072)]] = Field(min_length=1, max_length=1000)
    env: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, Source] = Field(default_factory=dict)
