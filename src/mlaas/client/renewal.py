"""Keeps the token of one service alive while a client is there."""

import threading
import weakref

import httpx2

from mlaas.client import calls
from mlaas.client.connection import Connection
from mlaas.client.errors import ApiError
from mlaas.client.transport import arguments, headers, parse

PREFIX = "mlaas_svc_"
"""How tokens begin that call one service alone; no other token can be renewed."""
_AGAIN = 5.0  # seconds after a renewal that nobody answered


class Renewal:
    """Renews the connection's token from a thread, at half of its life. Does nothing for any other token.

    The thread ends with `close`, with the client that it is for, and when the platform says that the token is void: the next call
    then says so.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._closed.set)

    def watch(self, project: str, service: str) -> None:
        """Begin. Repeating it does nothing."""
        token = self._connection.token
        if self._thread is None and token is not None and token.startswith(PREFIX):
            self._thread = threading.Thread(
                target=_renew,
                args=(self._connection, self._closed, project, service),
                name="token-renewal",
                daemon=True,
            )
            self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(1.0)  # it may be waiting for an answer; it ends with the process


def _renew(connection: Connection, closed: threading.Event, project: str, service: str) -> None:
    call = calls.renew_service_token(project, service)
    with httpx2.Client(
        base_url=connection.url, headers=headers(connection), timeout=10.0, verify=connection.ca or True
    ) as http:
        while not closed.is_set():
            wait = _AGAIN
            try:
                response = http.request(call.method, call.path, **arguments(call))
                document = parse(response.status_code, response.headers.get("content-type", ""), response.content)
                wait = float(document["ttl"]) / 2
            except ApiError as error:
                if error.status < 500:
                    return
            except httpx2.TransportError:
                pass
            closed.wait(wait)
