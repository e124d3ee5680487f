"""The system shared memory extension: tensors in POSIX shared memory that a client on this machine made.

Regions are read and written with `pread` and `pwrite`, never mapped: a client that shortens its region gets an error, where a
mapping would end the server with SIGBUS. A region is opened only where client and region belong to the same user, or the client
is the server's own user: else any user of the machine could have this process read or write another one's memory.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mlaas.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from mlaas.modelserver.errors import Unsupplied
from mlaas.modelserver.tensors import Tensor, to_bytes

_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux has POSIX shared memory
_KEY = re.compile(r"/?[^/\0]{1,250}")
REGION = "shared_memory_region"
"""The parameter of a tensor that says in which region its bytes are; `shared_memory_byte_size` and `_offset` say where."""


class Register(msgspec.Struct):
    """The body that registers a region."""

    key: str
    byte_size: int
    offset: int = 0


@dataclass(slots=True)
class Region:
    """`size` bytes from `offset` of an opened object."""

    name: str
    key: str
    offset: int
    size: int
    descriptor: int

    def read(self, offset: int, size: int) -> bytes:
        """Raises Invalid for bytes outside the region, and where the client has shortened it."""
        self._check(offset, size)
        data = os.pread(self.descriptor, size, self.offset + offset)
        if len(data) != size:
            raise Invalid(f"The shared memory region '{self.name}' has become shorter than it was registered.")
        return data

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._check(offset, len(data))
        if os.fstat(self.descriptor).st_size < self.offset + offset + len(data):
            raise Invalid(f"The shared memory region '{self.name}' has become shorter than it was registered.")
        os.pwrite(self.descriptor, data, self.offset + offset)

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Invalid(
                f"{size} bytes at {offset} are not inside the shared memory region '{self.name}' of {self.size} bytes."
            )

    def status(self) -> dict[str, Any]:
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.size}


class Regions:
    """The registered regions of one front. Switched on where only this machine reaches the port."""

    def __init__(self, enabled: bool = False, limit: int = 1024) -> None:
        self.enabled = enabled
        self._limit = limit
        self._regions: dict[str, Region] = {}

    def find(self, name: object) -> Region:
        """Raises NotFound for a name that is not registered."""
        found = self._regions.get(name) if isinstance(name, str) else None
        if found is None:
            raise NotFound(f"There is no shared memory region '{name}'.", hint="Register it first.")
        return found

    def read(self, tensor: str, place: Mapping[str, object]) -> bytes:
        """The bytes of an input, whose parameters are `place`. Raises NotFound, Invalid."""
        region, offset, size = self._span(f"input '{tensor}'", place)
        return region.read(offset, size)

    def write(self, tensor: Tensor, place: Mapping[str, object]) -> dict[str, str | int]:
        """Write an output to where its parameters say; its parameters in the answer. Raises NotFound, Invalid where it does not
        fit."""
        region, offset, size = self._span(f"output '{tensor.name}'", place)
        data = to_bytes(tensor)
        if len(data) > size:
            raise Invalid(f"The output '{tensor.name}' has {len(data)} bytes; {size} were given.", field="outputs")
        region.write(offset, data)
        return {REGION: region.name, "shared_memory_byte_size": len(data), "shared_memory_offset": offset}

    def _span(self, tensor: str, place: Mapping[str, object]) -> tuple[Region, int, int]:
        region = self.find(place[REGION])
        offset, size = place.get("shared_memory_offset", 0), place.get("shared_memory_byte_size", region.size)
        if type(offset) is not int or type(size) is not int:
            raise Invalid(f"The shared memory of {tensor} is not given in whole numbers.", field=tensor.split("'")[1])
        return region, offset, size

    def register(self, name: str, order: Register, client: int | None) -> None:
        """Open a region for the user with the id `client`. Raises Unsupplied where regions are switched off, Conflict, NotFound,
        Forbidden, Invalid."""
        if not self.enabled:
            raise Unsupplied(
                "Shared memory is served only where clients of this machine alone reach the port: `mlaas serve` on loopback.",
                hint="Send binary tensors instead.",
            )
        if name in self._regions:
            raise Conflict(f"The shared memory region '{name}' is registered already.")
        if len(self._regions) >= self._limit:
            raise Conflict(f"{self._limit} shared memory regions are registered; unregister some.")
        if not _KEY.fullmatch(order.key) or order.key.strip("/") in ("", ".", ".."):
            raise Invalid(f"'{order.key[:80]}' is no key of a shared memory object.", field="key")
        if order.offset < 0 or order.byte_size <= 0:
            raise Invalid("A region has an offset from 0 and a byte_size above 0.", field="byte_size")
        try:
            descriptor = os.open(
                _FOLDER / order.key.strip("/"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            )
        except OSError:
            raise NotFound(f"There is no shared memory object '{order.key}'.") from None
        try:
            self._admit(os.fstat(descriptor), order, client)
        except BaseException:
            os.close(descriptor)
            raise
        self._regions[name] = Region(name, order.key, order.offset, order.byte_size, descriptor)

    def _admit(self, found: os.stat_result, order: Register, client: int | None) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"There is no shared memory object '{order.key}'.")
        if client is None or client not in (found.st_uid, os.geteuid()):
            raise Forbidden(f"The shared memory object '{order.key}' belongs to another user.")
        if found.st_size < order.offset + order.byte_size:
            raise Invalid(
                f"The shared memory object '{order.key}' has {found.st_size} bytes,"
                f" not {order.byte_size} from {order.offset}.",
                field="byte_size",
            )

    def unregister(self, name: str = "") -> None:
        """One region, or all of them; one that is not there is none."""
        for found in [name] if name else list(self._regions):
            region = self._regions.pop(found, None)
            if region is not None:
                os.close(region.descriptor)

    def status(self, name: str = "") -> list[dict[str, Any]]:
        return [self.find(name).status()] if name else [region.status() for region in self._regions.values()]


def client_user(address: str, port: int) -> int | None:
    """The user id of the local process that holds the other end of a loopback connection, as the kernel lists it; None where it
    is not found."""
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1].endswith(wanted) and _is_address(fields[1].rpartition(":")[0], address) and fields[3] == "01":
                return int(fields[7])
    return None


def _is_address(text: str, address: str) -> bool:
    """Whether the kernel's hexadecimal words (each in host order) are a loopback address that prints as `address`."""
    import ipaddress

    raw = bytes.fromhex(text)
    swapped = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    try:
        found, given = ipaddress.ip_address(swapped), ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return mapped == (getattr(given, "ipv4_mapped", None) or given)
