from collections.abc import AsyncIterator

import pytest

from mlaas.kernel.bus.base import Bus
from mlaas.kernel.bus.contract import BusContract
from mlaas.kernel.bus.embedded import EmbeddedBus


class TestEmbedded(BusContract):
    @pytest.fixture
    async def bus(self) -> AsyncIterator[Bus]:
        bus = EmbeddedBus()
        yield bus
        await bus.close()
