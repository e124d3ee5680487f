"""The repository extension on a server of one's own: clients load and unload what the serving table names."""

from collections.abc import Mapping

import orjson

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.control import Controller
from mlaas.modelserver.table import Batcher

_KEYS = ("name", "max_batch_size", "dynamic_batching")


class Commands:
    """`Control` over a controller. Refuses with Forbidden where the table is somebody else's to change."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def load(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        """Load, or load again, a served name. Triton's parameter `config` may change how requests are batched; its `file:`
        parameters bring a model with the request, which is refused: what is served comes from the server's own folders."""
        for key in parameters:
            if key.startswith("file:"):
                raise Invalid(
                    f"The server failed to load '{name}': the parameter '{key[:80]}' brings a model with the request,"
                    " which is not taken.",
                    field="parameters",
                    hint="Start the server with the model's folder.",
                )
        batcher = batcher_of(name, parameters["config"]) if parameters.get("config") else None
        await self._controller.load(project, name, batcher=batcher)

    async def unload(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        """Unload a served name; `unload_dependents` is accepted, for nothing depends on a model here."""
        await self._controller.unload(project, name)


def batcher_of(name: str, config: object) -> Batcher | None:
    """The batching that a model configuration in Triton's words asks for: `max_batch_size` rows (whole number or digits) and
    `dynamic_batching.max_queue_delay_microseconds`; None for a configuration that says nothing of it.

    Raises Invalid for what is no such configuration, and for keys that would change anything else.
    """

    def refused(why: str) -> Invalid:
        return Invalid(
            f"The server failed to load '{name}': {why}",
            field="parameters.config",
            hint='A configuration looks like {"max_batch_size": 16,'
            ' "dynamic_batching": {"max_queue_delay_microseconds": 100}}.',
        )

    try:
        document = orjson.loads(config) if isinstance(config, str | bytes) else None
    except orjson.JSONDecodeError as error:
        raise refused(f"its 'config' is no valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise refused("its 'config' is no text with a JSON object.")
    others = [key for key in document if key not in _KEYS]
    if others:
        raise refused(f"'{others[0][:80]}' cannot be changed while the server runs; {' and '.join(_KEYS[1:])} can.")
    if document.get("name", name) != name:
        raise refused("the configuration is one of another model.")
    dynamic = document.get("dynamic_batching", {})
    if not isinstance(dynamic, dict):
        raise refused("'dynamic_batching' is not an object.")
    if "max_batch_size" not in document and not dynamic:
        return None
    size = _whole(document.get("max_batch_size", Batcher().max_batch_size))
    delay = _whole(dynamic.get("max_queue_delay_microseconds", 0))
    if size is None or size < 1:
        raise refused("'max_batch_size' is not a whole number above 0.")
    if delay is None:
        raise refused("'max_queue_delay_microseconds' is not a whole number from 0.")
    return Batcher(size, delay / 1000)


def _whole(value: object) -> int | None:
    """A whole number from 0, also as protobuf's JSON writes 64-bit ones: in digits."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None
