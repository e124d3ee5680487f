"""The access log, on standard error: one line a request. No header, no metadata and no body is in it.

127.0.0.1 2026-01-31T12:00:00Z "POST /v2/models/iris/infer" 200 184 0.000213        status, bytes, seconds
127.0.0.1 2026-01-31T12:00:00Z "GRPC /inference.GRPCInferenceService/ModelInfer" OK - 0.000187
"""

import sys
import time

from mlaas.modelserver.grpc.headers import Route
from mlaas.modelserver.grpc.status import Code
from mlaas.modelserver.http.message import HttpRequest


def request(request: HttpRequest, status: int, size: int) -> None:
    """An HTTP request that was answered."""
    line = b"%s %s" % (request.method or b"-", request.path[:300] or b"-")
    _write(request.peer, line.decode("ascii", "backslashreplace"), str(status), str(size), request.started)


def call(route: Route, code: int, began: float) -> None:
    """A gRPC call that has ended, whichever side ended it."""
    path = route.path[:300].encode("ascii", "backslashreplace").decode()
    _write(route.call.peer[0], f"GRPC {path or '-'}", Code(code).name, "-", began)


def _write(peer: str, line: str, status: str, size: str, began: float) -> None:
    seconds = time.perf_counter() - began if began else 0.0
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f'{peer or "-"} {stamp} "{line}" {status} {size} {seconds:.6f}\n')
