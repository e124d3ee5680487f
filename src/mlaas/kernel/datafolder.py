"""The data folder: one platform at a time, and on a disk of this machine."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Error, Full, InUse, Invalid, Unavailable

# Names of file systems as in /proc/self/mountinfo (proc(5)) on which SQLite's WAL does not work: its index is shared memory
# (sqlite.org/wal.html: "All processes using a database must be on the same host computer").
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "pvfs2", "orangefs", "ncpfs"}
)
NETWORK_FUSE = frozenset({"sshfs", "glusterfs", "s3fs", "rclone", "gcsfuse", "cephfs", "curlftpfs", "davfs", "moosefs"})


def file_system(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that `path` (or its nearest ancestor that exists) lies on; empty where it is not known."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text()
        except OSError:
            return ""
    place = path.resolve()
    best, found = -1, ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        mount = Path(fields[4].encode().decode("unicode_escape"))
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, found = len(mount.parts), after.split(" ")[0]
    return found


def check_local(path: Path, mounts: str | None = None) -> None:
    """Raises Invalid when `path` lies on a network file system."""
    kind = file_system(path, mounts)
    if kind in NETWORK or kind.removeprefix("fuse.") in NETWORK_FUSE:
        raise Invalid(
            f"The data folder {path} lies on a network file system ({kind}), where SQLite's WAL does not work.",
            field="data",
            hint="Choose a folder on a disk of this machine: `mlaas up --data /var/lib/mlaas`.",
        )


class DataFolder:
    """The folder, made and locked. The lock goes with the process: no child inherits it, and a kill releases it."""

    def __init__(self, path: Path) -> None:
        """Raises InUse (with pid and address of who has it), Invalid, Unavailable or Full."""
        self.path = path
        check_local(path)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in ("blobs", "cache", "work", "files"):
                (path / part).mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._in_use() from None
        self.record({"pid": os.getpid()})

    def record(self, holder: dict[str, Any]) -> None:
        """Write into the lock file who holds it, for whoever is refused."""
        data = json.dumps(holder).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, data, 0)

    def release(self) -> None:
        os.close(self._lock)

    def _in_use(self) -> InUse:
        try:
            holder = json.loads(os.pread(self._lock, 4096, 0))
        except ValueError:
            holder = {}
        os.close(self._lock)
        pid, url = holder.get("pid", "?"), holder.get("url")
        where = f" at {url}" if url else ""
        return InUse(
            f"The data folder {self.path} is in use by another platform: pid {pid}{where}.",
            hint=f"Use that one, stop it (kill {pid}), or choose another folder with --data.",
        )


def _unusable(path: Path, error: OSError) -> Error:
    if error.errno == 28:
        return Full(
            f"The disk of the data folder {path} is full.", hint="Free some space, or choose another with --data."
        )
    return Unavailable(
        f"The data folder {path} cannot be used: {error.strerror}.", hint="Choose another one with --data, or its mode."
    )
