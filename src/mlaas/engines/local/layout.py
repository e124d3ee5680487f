"""Where a workload's files lie: `WORK/UID/ROLE-INDEX/{cwd, log, attempt-N/...}`, and `WORK/UID/gang-N.json` per attempt."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from mlaas.engines.local import record
from mlaas.kernel.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Place:
    """The folder of one workload."""

    def __init__(self, work: Path, uid: str) -> None:
        if not _NAME.fullmatch(uid):
            raise Invalid(f"'{uid}' cannot be a uid: it does not fit as the name of a folder.", field="uid")
        self.uid = uid
        self.folder = work / uid

    def attempts(self) -> list[int]:
        """Numbers of the attempts begun, in order."""
        found = []
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        for name in names:
            if name.startswith("gang-") and name.endswith(".json"):
                found.append(int(name[5:-5]))
        return sorted(found)

    def gang_file(self, attempt: int) -> str:
        return str(self.folder / f"gang-{attempt}.json")

    def gang(self, attempt: int) -> dict[str, Any]:
        """What was decided once for all replicas of the attempt: `{replicas: [[role, index]], ports, gpus}`."""
        return record.read(self.gang_file(attempt)) or {"replicas": [], "ports": [], "gpus": []}

    def replica(self, role: str, index: int) -> Path:
        if not _NAME.fullmatch(role):
            raise Invalid(f"'{role}' cannot be the name of a role.", field="roles.name")
        return self.folder / f"{role}-{index}"

    def attempt(self, role: str, index: int, attempt: int) -> str:
        return str(self.replica(role, index) / f"attempt-{attempt}")

    def folders(self, attempt: int) -> list[str]:
        """The attempt folders of all replicas, in the order of their rank."""
        return [self.attempt(role, index, attempt) for role, index in self.gang(attempt)["replicas"]]

    def remove(self) -> None:
        """All of it. Renamed first, so that an interrupted removal never looks like a workload again."""
        aside = self.folder.with_name(f".removed-{self.uid}")
        try:
            os.rename(self.folder, aside)
        except FileNotFoundError:
            pass
        shutil.rmtree(aside, ignore_errors=True)


def empty(folder: Path, keep: frozenset[str]) -> None:
    """Remove all in `folder` but the names of `keep`. Never follows a symbolic link."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name in keep and not entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
