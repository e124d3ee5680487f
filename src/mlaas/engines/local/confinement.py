"""Which files a task may open: the rules that `landlock` enforces in the child."""

import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlaas.kernel import landlock

_SYSTEM = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys", "/nix", "/gnu", "/snap",
    "/run/systemd/resolve", "/run/resolvconf", "/var/lib/ca-certificates",
]  # fmt: skip
_DEVICES = [
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts",
    "/dev/shm",  # noqa: S108
]  # fmt: skip


def kind() -> str | None:
    """What confines tasks on this machine, in words; None when nothing can, and foreign code is not to be admitted."""
    version = landlock.abi()
    return f"Landlock (ABI {version})" if version else None


class Confinement:
    """Rules for the tasks of one platform.

    All tasks read the system, Python and its packages, and write the local roots, their working folder and a private
    temporary folder. Trusted recipes also read the blobs and write the cache. Nothing else below `data` can be opened.
    """

    def __init__(self, data: Path, roots: Iterable[Path], blobs: Path, cache: Path) -> None:
        self._data = data.resolve()
        self._roots = [root.resolve() for root in roots]
        self._blobs, self._cache = blobs.resolve(), cache.resolve()
        self._system = self._programs()

    def rules(
        self, cwd: str, tmp: str, *, trusted: bool, gpu: bool, gang: bool, files: list[str]
    ) -> dict[str, Any] | None:
        """What the child hands to `landlock.restrict`; `files` are readable too. None where the kernel has no Landlock."""
        if not kind():
            return None
        read = [*_SYSTEM, *self._outside(self._system), *files]
        write = [cwd, tmp, *_DEVICES]
        for root in self._roots:
            write += self._outside([str(root)]) if not root.is_relative_to(self._data) else []
        files_root = self._data / "files"
        if files_root in self._roots:
            write.append(str(files_root))
        if gpu:
            write += [*glob.glob("/dev/nvidia*"), "/dev/nvidia-caps", "/dev/kfd", "/dev/dri"]
        if trusted:
            read.append(str(self._blobs))
            write += [str(self._cache), *_from_environment("HF_HOME", "HF_HUB_CACHE")]
            read += _from_environment(
                "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"
            )
        # NCCL's replicas on one machine meet in abstract unix sockets, so a gang is not scoped there.
        scope = landlock.SCOPE_SIGNAL | (0 if gang else landlock.SCOPE_ABSTRACT_UNIX_SOCKET)
        return {"read": read, "write": write, "scope": scope, "drop": not trusted}

    def _outside(self, paths: list[str]) -> list[str]:
        """`paths` without the data folder. Landlock can only allow, so a folder above it is replaced by what lies in it."""
        found: list[str] = []
        for path in paths:
            place = Path(path)
            if place.is_relative_to(self._data):
                continue
            if not self._data.is_relative_to(place):
                found.append(path)
                continue
            try:
                found += self._outside([str(child.resolve()) for child in place.iterdir() if not child.is_symlink()])
            except OSError:
                continue
        return found

    @staticmethod
    def _programs() -> list[str]:
        """Python, its packages (with the model packages among them) and what PATH names."""
        places = {sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *sys.path}
        for name in ("PATH", "PYTHONPATH"):
            places.update(os.environ.get(name, "").split(os.pathsep))
        resolved = {os.path.realpath(place) for place in places if place and os.path.isabs(place)}
        return sorted(place for place in resolved if place != "/" and os.path.exists(place))


def _from_environment(*names: str) -> list[str]:
    return [os.environ[name] for name in names if os.environ.get(name)]
