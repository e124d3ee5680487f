"""What goes wrong in the data plane, beside the kernel's errors. On the wire every error is `{"error": text}` (the Open Inference
Protocol's schema) with these HTTP statuses; `Invalid` is 400 here, as its clients expect."""

from typing import ClassVar

from mlaas.kernel.errors import Error, Invalid, Unavailable


class Unexplained(Error):
    """The model has no explainer: its service names none, and its own code has no `explain`."""

    code = "not-implemented"
    status = 501


class Unsupplied(Error):
    """This server does not do that."""

    code = "not-supplied"
    status = 501


class NotReady(Unavailable):
    """The model is loading, restarting or set aside; `retry_after` is in seconds."""

    code = "not-ready"
    retry_after: float = 1.0


class Crashed(NotReady):
    """The model's worker died while it worked on this request; another one starts."""

    code = "worker-crashed"


class Failed(Error):
    """The model raised an error of its own while it worked on this request; the log has the details."""

    code = "model-failed"
    status = 500


class TimedOut(Error):
    """The model did not answer in time."""

    code = "timeout"
    status = 504


class Throttled(Error):
    """More requests wait for this model than its queue holds."""

    code = "too-many-requests"
    status = 429
    retry_after: ClassVar[float] = 1.0


class BadGateway(Error):
    """A remote predictor or step answered with an error of its own."""

    code = "bad-gateway"
    status = 502


def http_status(error: Error) -> int:
    """The status on the inference ports: the kernel's, but 400 where the platform's API says 422."""
    return 400 if isinstance(error, Invalid) else error.status
