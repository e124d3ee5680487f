"""The memory budget of loaded models: the least recently used ones go first."""

import asyncio
from collections.abc import Callable
from weakref import WeakSet

from mlaas.modelserver.wrap.unit import Unit


class Budget:
    """Keeps the loaded units of one device within `limit` bytes (0: no limit).

    A unit that works on a request, or must stay (`pinned`), is not unloaded; when only such ones are left the budget is
    exceeded rather than a request refused, and `over` says by how much.
    """

    def __init__(self, limit: int = 0, pinned: Callable[[Unit], bool] = lambda unit: False) -> None:
        self.limit = limit
        self.unloaded = 0  # how many units went because memory was short
        self._pinned = pinned
        self._units: WeakSet[Unit] = WeakSet()  # what was removed is nobody's to keep
        self._leaving: set[asyncio.Task[None]] = set()

    def used(self) -> int:
        """Bytes of all loaded units."""
        return sum(unit.memory() for unit in self._units if unit.ready())

    def over(self) -> int:
        """Bytes above the limit."""
        return max(0, self.used() - self.limit) if self.limit else 0

    def make_room(self, newest: Unit) -> None:
        """Count `newest` in, and unload others until all fit."""
        self._units = WeakSet([*(unit for unit in self._units if unit.ready()), newest])
        if not self.limit:
            return
        excess = self.used() - self.limit
        for unit in sorted(self._units, key=lambda unit: unit.used):
            if excess <= 0:
                return
            if unit is newest or unit.busy or self._pinned(unit):
                continue
            excess -= unit.memory()
            self.unload(unit)

    def unload(self, unit: Unit) -> None:
        """Unload it in the background."""
        self.unloaded += 1
        self._units.discard(unit)
        task = asyncio.get_running_loop().create_task(unit.unload())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
