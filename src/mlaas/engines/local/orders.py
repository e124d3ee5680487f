"""From a workload's spec to what its shims are told: one `start.json` per replica, written before anything is started."""

import glob
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from mlaas.engines.local import environment, record
from mlaas.engines.local.confinement import Confinement
from mlaas.engines.local.layout import Place
from mlaas.engines.local.mounts import Fetch, lay
from mlaas.kernel import cgroup
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.kernel.resource import Resource
from mlaas.kernel.workload import Resources, Role, WorkloadSpec

_LONGEST_TMP = 70  # bytes; sockets below it must fit into 107 (unix(7))


class Orders:
    """Writes orders. `base` is where control groups may be created, `hint` the platform's socket."""

    def __init__(
        self,
        confinement: Confinement,
        base: dict[str, Any] | None,
        hint: str,
        cache: Path,
        gpus: list[str],
        fetch: Fetch | None,
        segment: int,
    ) -> None:
        self._confinement, self._base, self._hint = confinement, base, hint
        self._cache, self._gpus, self._fetch, self._segment = cache, gpus, fetch, segment

    def write(self, place: Place, workload: Resource, spec: WorkloadSpec, attempt: int, taken: set[str]) -> list[str]:
        """Write all orders of the attempt that are not there yet; the attempt folders, in the order of rank.

        `taken` are accelerators in use. What is chosen (ports, accelerators) is chosen once, so a repeat writes the same.
        """
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        record.write(str(place.folder / "workload.json"), workload.to_json())
        if os.path.exists(place.gang_file(attempt)):
            self._write_all(place, workload, spec, attempt, place.gang(attempt))
        else:
            chosen = self._decide(spec, taken)
            self._write_all(place, workload, spec, attempt, chosen)
            # Last, as it says that the attempt has begun: what went wrong until here leaves nothing that looks like one.
            if not record.claim(place.gang_file(attempt), chosen):
                self._write_all(place, workload, spec, attempt, place.gang(attempt))
        return place.folders(attempt)

    def _write_all(
        self, place: Place, workload: Resource, spec: WorkloadSpec, attempt: int, gang: dict[str, Any]
    ) -> None:
        members = environment.ranks(spec)
        folders = [place.attempt(role.name, index, attempt) for role, index in members]
        for rank, (role, index) in enumerate(members):
            if not os.path.exists(f"{folders[rank]}/{record.SHIM}"):
                order = self._order(place, workload, spec, attempt, rank, gang)
                order["peers"] = [folder for folder in folders if folder != folders[rank]]
                self._lay_out(place, role, index, folders[rank], order, spec)
                record.write(f"{folders[rank]}/{record.ORDER}", order)

    def _decide(self, spec: WorkloadSpec, taken: set[str]) -> dict[str, Any]:
        members = environment.ranks(spec)
        free = [gpu for gpu in self._gpus if gpu not in taken]
        gpus: list[list[str]] = []
        for role, _ in members:
            if role.resources.gpu > len(free):
                raise Unavailable(
                    f"{role.resources.gpu} accelerators are asked for, {len(free)} are free.", field="resources.gpu"
                )
            gpus.append(free[: role.resources.gpu])
            free = free[role.resources.gpu :]
        return {
            "replicas": [[role.name, index] for role, index in members],
            "ports": environment.free_ports(1 + len(members)),
            "gpus": gpus,
        }

    def _order(
        self, place: Place, workload: Resource, spec: WorkloadSpec, attempt: int, rank: int, gang: dict[str, Any]
    ) -> dict[str, Any]:
        role, index = environment.ranks(spec)[rank]
        replica = place.replica(role.name, index)
        folder = place.attempt(role.name, index, attempt)
        tmp = str(replica / "tmp")
        if len(tmp) > _LONGEST_TMP:
            tmp = f"{os.path.dirname(self._hint)}/{place.uid[:12]}-{rank}"
        cwd, marker = str(replica / "cwd"), f"{place.uid}/{attempt}/{role.name}-{index}"
        variables = {
            **environment.base(),
            **(environment.recipes(self._cache) if role.recipe else {}),
            "HOME": cwd,
            "TMPDIR": tmp,
            "OMP_NUM_THREADS": environment.threads(role),
            "CUDA_VISIBLE_DEVICES": ",".join(gang["gpus"][rank]),
            **environment.gang(spec, rank, gang["ports"]),
            **role.env,
            "KUBEFLOW_TRAINER_SERVER_TOKEN": f"{folder}/{record.TOKEN}",
            "MLAAS_REPLICA": marker,
            "MLAAS_UID": place.uid,
            "MLAAS_NAME": workload.meta.name,
            "MLAAS_PROJECT": workload.meta.project,
            "MLAAS_ATTEMPT": str(attempt),
        }
        # The platform's own server opens what it serves in processes that it confines itself.
        own = spec.mode == "server" and spec.trusted
        if own:
            variables |= environment.telemetry()
        files = [f"{folder}/{record.TOKEN}"]
        if role.task_file is not None:
            variables["MLAAS_TASK_FILE"] = f"{cwd}/task.json"
        if spec.trusted and role.recipe:
            variables["MLAAS_CREDENTIALS_FILE"] = f"{folder}/{record.CREDENTIALS}"
            files.append(f"{folder}/{record.CREDENTIALS}")
        return {
            "uid": place.uid,
            "attempt": attempt,
            "role": role.name,
            "index": index,
            "marker": marker,
            "cwd": cwd,
            "tmp": tmp,
            "command": role.command or [sys.executable, "-P", "-m", "mlaas.runtimes.child", role.recipe],
            "recipe": role.recipe,
            "env": variables,
            "cpu": role.resources.cpu,
            "memory": role.resources.memory,
            "cgroup": cgroup.group(self._base, f"mlaas-{place.uid}-{attempt}-{rank}"),
            "confine": None
            if own
            else self._confinement.rules(
                cwd,
                tmp,
                trusted=spec.trusted,
                gpu=role.resources.gpu > 0,
                gang=len(gang["replicas"]) > 1,
                files=files,
            ),
            "time_limit": spec.time_limit,
            "grace": spec.grace,
            "hint": self._hint,
            "segment": self._segment,
            "own_environment": bool(role.env),
            "message": "",
        }

    def _lay_out(
        self, place: Place, role: Role, index: int, folder: str, order: dict[str, Any], spec: WorkloadSpec
    ) -> None:
        cwd = Path(order["cwd"])
        for path in (cwd, Path(order["tmp"]), Path(folder)):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("result.json", "task.json"):
            (cwd / name).unlink(missing_ok=True)
        if role.task_file is not None:
            record.write(str(cwd / "task.json"), {**role.task_file, "attempt": order["attempt"]})
        lay(role.mounts, cwd, self._fetch)
        if not os.path.exists(f"{folder}/{record.TOKEN}"):
            _secret(f"{folder}/{record.TOKEN}", secrets.token_hex(32))
        if spec.trusted and role.recipe:
            record.write(f"{folder}/{record.CREDENTIALS}", environment.credentials())


def _secret(path: str, content: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w") as file:
        file.write(content)


def accelerators() -> list[str]:
    """Accelerators that workloads may have, as CUDA numbers them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip()]
    return [path.removeprefix("/dev/nvidia") for path in sorted(glob.glob("/dev/nvidia[0-9]*"))]


def check(spec: WorkloadSpec, capacity: Resources) -> None:
    """Raises Invalid for what can never start on this machine."""
    if spec.environment is not None:
        raise Invalid(f"There is no environment '{spec.environment}' here.", field="environment")
    names = [role.name for role in spec.roles]
    if not names or len(set(names)) != len(names):
        raise Invalid("A workload has at least one role, and the names of its roles differ.", field="roles")
    for role in spec.roles:
        if (role.command is None) == (role.recipe is None) or role.command == []:
            raise Invalid(f"Role '{role.name}' needs either a command or a recipe.", field="roles.command")
        if any("\0" in text for text in (role.command or [])):
            raise Invalid("A command cannot contain a NUL character.", field="roles.command")
        if any(not name or "=" in name or "\0" in name + value for name, value in role.env.items()):
            raise Invalid("Environment variables have names without '=', and no NUL characters.", field="roles.env")
    for field, asked, there in (
        ("cpu", sum(role.resources.cpu * role.replicas for role in spec.roles), capacity.cpu),
        ("memory", sum(role.resources.memory * role.replicas for role in spec.roles), capacity.memory),
        ("gpu", sum(role.resources.gpu * role.replicas for role in spec.roles), capacity.gpu),
    ):
        if asked > there:
            raise Invalid(
                f"{asked:g} {_UNIT[field]} are asked for, this machine has {there:g}.",
                field=f"resources.{field}",
                hint="Ask for less, or run it on a larger machine.",
            )


_UNIT = {"cpu": "cores", "memory": "bytes of memory", "gpu": "accelerators"}
