"""JSON messages over a stream socket, asked and answered from both ends: between the model server's parent and its fronts, and on
its administration socket, to the platform.

A frame is a 4-byte big-endian length and a JSON object: `{"id", "op", ...}` asks, `{"re", "ok"}` or `{"re", "error"}` answers.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mlaas.kernel.errors import Conflict, Error, Forbidden, Invalid, NotFound, Unavailable

LARGEST = 64 << 20
"""Bytes of one message: a serving table with thousands of services is a few MB."""

_ERRORS: dict[str, type[Error]] = {kind.code: kind for kind in (Invalid, Forbidden, NotFound, Conflict, Unavailable)}

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Answers one question: the operation and its arguments."""


class Channel:
    """One end. `closed` is set when the other end has gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self.closed = asyncio.Event()
        self._reader, self._writer, self._handler = reader, writer, handler
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def ask(self, op: str, timeout: float = 60.0, **arguments: Any) -> Any:
        """The other end's answer. Raises the kernel error it raised, Unavailable when it has gone or says nothing."""
        if self.closed.is_set():
            raise Unavailable("The model server has gone away.")
        self._next += 1
        number = self._next
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "op": op, **arguments})
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise Unavailable(f"The model server did not answer '{op}' within {timeout:.0f} s.") from None
        finally:
            self._asked.pop(number, None)

    async def close(self) -> None:
        self._reading.cancel()
        self._gone()
        self._writer.close()

    def _send(self, message: dict[str, Any]) -> None:
        data = msgspec.json.encode(message)
        self._writer.write(len(data).to_bytes(4, "big") + data)

    async def _read(self) -> None:
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                if size > LARGEST:
                    raise Invalid(f"A message of {size} bytes.")
                self._take(msgspec.json.decode(await self._reader.readexactly(size)))
        except (asyncio.IncompleteReadError, OSError, Invalid, msgspec.DecodeError):
            pass
        finally:
            self._gone()
            self._writer.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "op" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        waiting = self._asked.get(message.get("re", 0))
        if waiting is None or waiting.done():
            return
        if "error" in message:
            found = message["error"]
            kind = _ERRORS.get(found.get("code", ""), Unavailable)
            waiting.set_exception(kind(found["message"], hint=found.get("hint"), field=found.get("field")))
        else:
            waiting.set_result(message.get("ok"))

    async def _answer(self, message: dict[str, Any]) -> None:
        number, op = message.pop("id", 0), message.pop("op")
        try:
            answer = {"re": number, "ok": await self._handler(op, message)}
        except Error as error:
            found = error.summary()
            if isinstance(error, Invalid):
                found["code"] = Invalid.code
            answer = {"re": number, "error": found}
        except Exception as error:
            answer = {"re": number, "error": {"code": "internal", "message": f"{type(error).__name__}: {error}"}}
        if not self.closed.is_set():
            self._send(answer)

    def _gone(self) -> None:
        self.closed.set()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("The model server has gone away."))


async def over(sock: socket.socket, handler: Handler) -> Channel:
    """A channel over a connected stream socket."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 20)
    return Channel(reader, writer, handler)
