"""What is checked of a new task before it is stored, beyond its spec's own shape."""

from typing import Any

from mlaas.kernel.resource import Resource


async def admit_create(context: Any, task: Resource) -> None:
    pass
