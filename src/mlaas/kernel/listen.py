"""Sockets to listen on, and the record of where the platform listens."""

import contextlib
import fcntl
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid, Unavailable


def bind(host: str, port: int, what: str, flag: str, *, reuse: bool = True) -> socket.socket:
    """A socket bound to `host` and `port` (0: a free one), not inherited by any child.

    `reuse`: also while connections of an earlier process linger, so that a killed platform starts again at once.
    Raises Unavailable when the port is taken, Invalid for an address that is not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise Invalid(
            f"There is no address '{host}': {error}.", field="host", hint="Like 127.0.0.1 or 0.0.0.0."
        ) from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise Unavailable(
            f"Port {port} of {host}, wanted for {what}, cannot be used: {error.strerror}.",
            field=flag.removeprefix("--").replace("-", "_"),
            hint=f"Choose another one with {flag}, or stop what uses it (`ss -ltnp 'sport = :{port}'` shows it).",
        ) from None
    return sock


@contextlib.contextmanager
def reserved(host: str, port: int, what: str, flag: str, locks: Path) -> Iterator[None]:
    """Keep the port for a server that is started later: no other platform of this user takes it meanwhile, and whatever listens
    there now is told. `locks` is a folder that they share. Raises Unavailable."""
    bind(host, port, what, flag).close()
    if port == 0:
        yield
        return
    path = locks / f"mlaas-{os.getuid()}-port-{port}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unavailable(
                f"Port {port} of {host}, wanted for {what}, is kept by another platform on this machine.",
                field=flag.removeprefix("--").replace("-", "_"),
                hint=f"Choose another one with {flag}.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(sock: socket.socket, host: str, tls: bool) -> str:
    """The address for clients on this machine."""
    port = sock.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record atomically, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file, indent=1)
    partial.replace(path)


def forget_record(path: Path) -> None:
    """Remove the record if it is this process's."""
    try:
        if json.loads(path.read_text()).get("pid") == os.getpid():
            path.unlink()
    except (OSError, ValueError):
        pass
