"""gRPC status codes, and which one an error is."""

from enum import IntEnum

from mlaas.kernel.errors import (
    Conflict,
    Error,
    Exists,
    Forbidden,
    Full,
    Invalid,
    NotFound,
    OutOfMemory,
    PreconditionFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from mlaas.modelserver.errors import BadGateway, Throttled, TimedOut, Unexplained, Unsupplied


class Code(IntEnum):
    """The codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_CODES: tuple[tuple[type[Error], Code], ...] = (
    (Invalid, Code.INVALID_ARGUMENT),
    (Unsupported, Code.INVALID_ARGUMENT),
    (NotFound, Code.NOT_FOUND),
    (Unauthenticated, Code.UNAUTHENTICATED),
    (Forbidden, Code.PERMISSION_DENIED),
    (Exists, Code.ALREADY_EXISTS),
    (Conflict, Code.ABORTED),
    (PreconditionFailed, Code.FAILED_PRECONDITION),
    (TooLarge, Code.RESOURCE_EXHAUSTED),
    (Throttled, Code.RESOURCE_EXHAUSTED),
    (OutOfMemory, Code.RESOURCE_EXHAUSTED),
    (Full, Code.RESOURCE_EXHAUSTED),
    (TimedOut, Code.DEADLINE_EXCEEDED),
    (Unexplained, Code.UNIMPLEMENTED),
    (Unsupplied, Code.UNIMPLEMENTED),
    (BadGateway, Code.UNAVAILABLE),
    (Unavailable, Code.UNAVAILABLE),
)


def code_of(error: Error) -> Code:
    """The status code of an error: the first class above that it is of, else INTERNAL."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.INTERNAL)


def text_of(error: Error) -> str:
    """What `grpc-message` says: what happened and, where there is one, what to do next."""
    return f"{error.message} {error.hint}" if error.hint else error.message
