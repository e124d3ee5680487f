"""Methods on messages as methods on bytes."""

from collections.abc import Awaitable, Callable
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.grpc.call import Call
from mlaas.modelserver.grpc.codec import Buffer, Parts
from mlaas.modelserver.grpc.messages import message


def unary(request_type: str, answer: Callable[[Any, Call], Any]) -> Callable[[Buffer, Call], Parts | Awaitable[Parts]]:
    """A method on messages (plain or a coroutine) as one on bytes."""
    kind = message(request_type)

    def method(payload: Buffer, call: Call) -> Parts | Awaitable[Parts]:
        found = answer(parse(kind, payload), call)
        if isinstance(found, Awaitable):
            return _serialised(found)
        return [found.SerializeToString()]

    return method


def parse(kind: Any, payload: Buffer) -> Any:
    """The message in some bytes. Raises Invalid."""
    try:
        return kind.FromString(bytes(payload))
    except Exception as error:  # protobuf's DecodeError
        raise Invalid(f"The message is no {kind.DESCRIPTOR.full_name}.") from error


async def _serialised(found: Awaitable[Any]) -> Parts:
    return [(await found).SerializeToString()]
