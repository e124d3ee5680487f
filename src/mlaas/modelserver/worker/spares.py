"""Workers that wait for a model: processes that have imported a framework ahead of the first request.

Importing torch and transformers takes seconds, opening a small model a few hundred milliseconds. Where models are served that are
not in memory and will need such a worker, one process for each framework waits for the first of them; it has seen nothing of any
model. Another one takes its place some seconds after it has gone.
"""

import asyncio
import re
from pathlib import Path

from mlaas.modelserver.formats.base import Format
from mlaas.modelserver.worker.order import Order
from mlaas.modelserver.worker.spawn import Spawned, hand_over, spawn_ahead

_FRAMEWORKS = {
    "transformers": [
        "torch",
        "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
    ],
    "torch": ["torch"],
}
"""What is imported ahead, by the package that a model needs; the first one that it needs counts. None of them starts a thread."""

_AGAIN = 5.0  # seconds until the place of a worker that was taken is filled: its model is being opened
_IMPORT = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)


class Spares:
    """The waiting workers of a front. Only the event loop touches it."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self._waiting: dict[str, Spawned] = {}
        self._timer: asyncio.TimerHandle | None = None

    def want(self, frameworks: set[str]) -> None:
        """Have one worker wait for each of these, and none for others."""
        self.wanted = frameworks
        for framework in self._waiting.keys() - frameworks:
            self._waiting.pop(framework).abandon()
        if self._timer is None:
            self._fill()

    def pids(self) -> dict[str, int]:
        """The processes that wait, by framework."""
        return {framework: spare.process.pid for framework, spare in self._waiting.items()}

    def take(self, order: Order) -> Spawned | None:
        """The process that waits for such a model, handed over to it; None where there is none."""
        spare = self._waiting.pop(order.framework, None) if not order.python else None
        if spare is None:
            return None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._fill)
        if spare.process.poll() is None and hand_over(spare, order):
            return spare
        spare.abandon()
        return None

    def close(self) -> None:
        """End all that wait."""
        if self._timer is not None:
            self._timer.cancel()
        self.want(set())

    def _fill(self) -> None:
        self._timer = None
        for framework in self.wanted - self._waiting.keys():
            try:
                self._waiting[framework] = spawn_ahead(_FRAMEWORKS[framework])
            except OSError:
                continue  # a model's own worker will say why none can be started


def framework_of(format: Format, root: Path) -> str:
    """Which framework a model needs of those that can be imported ahead; "" for none. Reads the file of a model that is code."""
    needs = set(format.needs(root))
    if format.executes:
        files = [root] if root.is_file() else sorted(root.glob("*.py"))
        needs.update(*(_IMPORT.findall(file.read_text(errors="replace")) for file in files if file.suffix == ".py"))
    return next((name for name in _FRAMEWORKS if name in needs), "")
