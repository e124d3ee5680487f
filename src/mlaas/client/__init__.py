"""The SDK: `mlaas.client.Client` and `AsyncClient`, the same nouns as the API."""

from mlaas.client.asynchronous import AsyncClient
from mlaas.client.errors import ApiError, TaskFailed, WaitTimeout
from mlaas.client.sync import Client

__all__ = ["ApiError", "AsyncClient", "Client", "TaskFailed", "WaitTimeout"]
