"""Confinement of a process to parts of the file system by Landlock (landlock(7), Linux 5.13). Standard library only.

A process that restricted itself can't undo it, and its children inherit it. Beyond files it can't trace (or read memory and
environment of) processes outside, can't signal them (ABI 6), and can't change mounts.
"""

import ctypes
import errno
import os
import stat
import struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # one number on all architectures
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_SET_NAME = 38, 24, 15

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2

# Capabilities that a confined root keeps (capabilities(7)): enough for file ownership, nothing that leaves the confinement.
_KEPT = (1 << 0) | (1 << 1) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 10)
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> int:
    return int(_libc.prctl(option, value, 0, 0, 0))


def prctl_name(name: bytes) -> None:
    """What `ps` and /proc/PID/comm call this process."""
    _libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


def abi() -> int:
    """Version of the kernel's Landlock interface; 0 when there is none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, 1)))


def restrict(read: list[str], write: list[str], scope: int) -> None:
    """Confine this process: below `read` it may read and execute, below `write` do all, elsewhere nothing.

    Paths that do not exist are left out. Raises OSError when the kernel refuses.
    """
    version = abi()
    if not version:
        raise OSError(errno.ENOSYS, "This kernel has no Landlock")
    handled = _BY_ABI[max(known for known in _BY_ABI if known <= version)]
    attributes = struct.pack("=Q", handled)
    if version >= 6:
        attributes = struct.pack("=QQQ", handled, 0, scope)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for paths, access in ((read, READ), (write, handled)):
            for path in paths:
                _allow(ruleset, path, access & handled)
        if prctl(_PR_SET_NO_NEW_PRIVS, 1):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def drop_capabilities() -> None:
    """Let go of the capabilities by which a superuser could step around file rules. Nothing for other users."""
    if os.geteuid():
        return
    for number in range(64):
        if not _KEPT >> number & 1 and prctl(_PR_CAPBSET_DROP, number) and ctypes.get_errno() == errno.EINVAL:
            break  # past the last one that this kernel knows
    low, high = _KEPT & 0xFFFFFFFF, _KEPT >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)):
        raise OSError(ctypes.get_errno(), "capset was refused")


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            access &= _FILE
        _call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", access, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
