"""Content laid into a replica's working folder before it starts."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mlaas.kernel.errors import Invalid
from mlaas.kernel.workload import Mount

Fetch = Callable[[Mount, Path], None]
"""Brings the content of a mount to a path that does not exist yet (file or folder). Blocking; called in a thread."""


def lay(mounts: list[Mount], cwd: Path, fetch: Fetch | None) -> None:
    """Have every mount at its place. `file://` is linked (the roots are readable by the task), everything else fetched.

    What lies there already, from an earlier attempt, stays. A symbolic link that the task left on the way is removed: the
    platform must not be led to write elsewhere. Raises Invalid for a path outside the working folder and a file that is not
    there.
    """
    for mount in mounts:
        parts = PurePosixPath(mount.path).parts
        if not parts or mount.path.startswith("/") or ".." in parts:
            raise Invalid(f"A mount's path lies in the working folder; '{mount.path}' does not.", field="mounts.path")
        folder = cwd
        for part in parts[:-1]:
            folder = folder / part
            if folder.is_symlink():
                folder.unlink()
            folder.mkdir(exist_ok=True)
        target = folder / parts[-1]
        if target.is_symlink():
            target.unlink()
        if target.exists():
            continue
        address = urlsplit(mount.uri)
        if address.scheme in ("file", ""):
            source = Path(unquote(address.path))
            if not source.exists():
                raise Invalid(f"The input '{source}' does not exist.", field="inputs")
            os.symlink(source, target)
        elif fetch is None:
            raise Invalid(f"'{mount.uri}' cannot be fetched here.", field="mounts.uri")
        else:
            fetch(mount, target)
