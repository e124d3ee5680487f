"""Every error a user can meet, as one tree. The class decides `code` and HTTP status; its docstring is the default message.

    Error                       internal                500
    ├── Invalid                 invalid                 422   a field has a wrong value; `field` names it
    │   └── Malformed           malformed               400   the body is not JSON or YAML at all
    ├── Unauthenticated         unauthenticated         401
    ├── Forbidden               forbidden               403
    ├── NotFound                not-found               404
    ├── Conflict                conflict                409
    │   ├── Exists              exists                  409   the name (or save target) is taken
    │   ├── Immutable           immutable               409   this field cannot change after creation
    │   └── Fenced              fenced                  409   the writer's lease is no longer its own
    ├── Compacted               compacted               410   the revision is older than what is kept
    ├── PreconditionFailed      precondition-failed     412   `If-Match` names another version
    ├── TooLarge                too-large               413
    ├── Unsupported             unsupported-media-type  415
    ├── PreconditionRequired    precondition-required   428
    ├── Full                    storage-full            507
    ├── OutOfMemory             out-of-memory           507   a task needed more memory than it had
    └── Unavailable             unavailable             503   a back end does not answer; try again
        └── InUse               data-folder-in-use      503

On the wire these are RFC 9457 problem documents: `type`, `title`, `status`, `detail`, plus `code`, `hint` and `errors`
(a list of `{field, message}`).
"""

from typing import Any, ClassVar


class Error(Exception):
    """Something went wrong inside the platform."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        field: str | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").split("\n")[0]
        self.hint = hint
        self.field = field
        self.errors = errors or ([{"field": field, "message": self.message}] if field else [])
        super().__init__(self.message)

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 document of this error."""
        document: dict[str, Any] = {
            "type": f"about:mlaas#{self.code}",
            "title": self.code.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.message,
            "code": self.code,
        }
        if self.hint:
            document["hint"] = self.hint
        if self.errors:
            document["errors"] = self.errors
        return document

    def summary(self) -> dict[str, str]:
        """`{code, message, hint?, field?}`: how a failed task carries its error in its status."""
        document = {"code": self.code, "message": self.message}
        if self.hint:
            document["hint"] = self.hint
        if self.field:
            document["field"] = self.field
        return document


class Invalid(Error):
    """A field has a value that cannot be used."""

    code = "invalid"
    status = 422


class Malformed(Invalid):
    """The body cannot be read."""

    code = "malformed"
    status = 400


class Unauthenticated(Error):
    """No valid token came with the request."""

    code = "unauthenticated"
    status = 401


class Forbidden(Error):
    """The token's role does not allow this."""

    code = "forbidden"
    status = 403


class NotFound(Error):
    """There is no such resource."""

    code = "not-found"
    status = 404


class Conflict(Error):
    """The resource changed since it was read."""

    code = "conflict"
    status = 409


class Exists(Conflict):
    """The name is taken."""

    code = "exists"


class Immutable(Conflict):
    """This field cannot change after creation."""

    code = "immutable"


class Fenced(Conflict):
    """The writer's lease is no longer its own."""

    code = "fenced"


class Compacted(Error):
    """The revision is older than what is kept: list again."""

    code = "compacted"
    status = 410


class PreconditionFailed(Error):
    """`If-Match` names another version than the stored one."""

    code = "precondition-failed"
    status = 412


class TooLarge(Error):
    """The body is larger than what is accepted."""

    code = "too-large"
    status = 413


class Unsupported(Error):
    """The body's content type is not one that is read here."""

    code = "unsupported-media-type"
    status = 415


class PreconditionRequired(Error):
    """A replace needs `If-Match` with the version that was read."""

    code = "precondition-required"
    status = 428


class Full(Error):
    """The disk is full."""

    code = "storage-full"
    status = 507


class OutOfMemory(Error):
    """The memory was not enough."""

    code = "out-of-memory"
    status = 507


class Unavailable(Error):
    """A back end does not answer."""

    code = "unavailable"
    status = 503


class InUse(Unavailable):
    """The data folder is in use by another platform."""

    code = "data-folder-in-use"
