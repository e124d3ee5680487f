"""KServe's own SDK, in an environment of its own, against the server: gRPC, and REST beside it."""

import socket

import pytest
from tests.clients import environment

from mlaas.modelserver.server import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first run builds the environment


def test_the_grpc_client(running):
    assert "passed" in environment.run("kserve_grpc.py", running.address)


def test_the_rest_client(running):
    sock = socket.create_server(("127.0.0.1", 0))
    front = running.do(lambda: Front(running.dispatch, [sock]))
    running.do(front.start)
    try:
        assert "passed" in environment.run("kserve_rest.py", f"http://127.0.0.1:{sock.getsockname()[1]}")
    finally:
        running.do(lambda: front.listener.drain(1))
