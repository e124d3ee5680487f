"""The repository extension on a server of one's own: clients load and unload what the serving table names."""

from collections.abc import Mapping

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.control import Controller


class Commands:
    """`Control` over a controller. Refuses with Forbidden where the table is somebody else's to change."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def load(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        """Load, or load again, a served name. Triton's `config` and `file:` parameters bring a model with the request, which
        is refused: what is served comes from the server's own folders."""
        for key in parameters:
            if key == "config" or key.startswith("file:"):
                raise Invalid(
                    f"The parameter '{key}' brings a model with the request, which is not taken.",
                    field="parameters",
                    hint="Start the server with the model's folder.",
                )
        await self._controller.load(project, name)

    async def unload(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        """Unload a served name; `unload_dependents` is accepted, for nothing depends on a model here."""
        await self._controller.unload(project, name)
