"""The workload: a gang of replicas that a queue admits and an engine runs. The one noun between what users want and processes.

Writers of a workload's status: `admission` is written by admission; `attempt`, `attempts`, `phase`, `conditions` by the
workload's reconciler; `replicas` by the reconciler from what the engine observes; `progress` from the report channel.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from mlaas.kernel.resource import Spec

ReplicaPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Lost"]


class Resources(Spec):
    """What one replica needs. `cpu` in cores, `memory` in bytes, `gpu` in whole accelerators."""

    cpu: float = Field(1.0, gt=0, le=65536)
    memory: int = Field(1 << 30, ge=1 << 20)
    gpu: int = Field(0, ge=0)


class Mount(Spec):
    """Content that is laid into a replica's working folder before it starts: `path` is relative to that folder."""

    path: str
    uri: str
    hash: str = ""


class Role(Spec):
    """One role of the gang.

    Either `command` (a foreign program, started with exec) or `recipe` (a Python module with `main(task)`, started by
    the warm fork server where there is one) with its `task_file`, the JSON that `mlaas.runtimes.taskfile` describes.
    """

    name: str = "main"
    replicas: int = Field(1, ge=1)
    command: list[str] | None = None
    recipe: str | None = None
    task_file: dict[str, Any] | None = None
    env: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Field(default_factory=Resources)
    mounts: list[Mount] = Field(default_factory=list)
    ports: list[int] = Field(default_factory=list)
    readiness: dict[str, Any] | None = None
    restart_policy: Literal["Never", "OnFailure", "Always"] = "Never"


class WorkloadSpec(Spec):
    """What to run. Only `suspend`, `priority` and `cancel` (which stays set) change after creation."""

    roles: list[Role]
    mode: Literal["job", "server"] = "job"
    suspend: bool = False
    cancel: bool = False
    queue: str | None = None
    priority: int = 0
    interactive: bool = False  # admitted at once, beside the accounted ones, up to one per core
    engine: str | None = None
    environment: str | None = None  # a Python environment by name or hash; None: the platform's own
    time_limit: float | None = Field(None, gt=0)  # seconds an attempt may run
    grace: float = Field(10.0, ge=0)  # seconds between TERM and KILL
    backoff_limit: int = Field(0, ge=0)  # retries after a failure of its own; interruptions are not counted
    trusted: bool = True  # False: foreign code; confined to its working folder and the local roots, no credentials


@dataclass(frozen=True, slots=True)
class Exit:
    """How a replica ended, as the shim wrote it to `exit.json`.

    Exactly one of `code` and `signal` is set. `by_platform`: the signal was sent by the platform (cancel, time limit).
    `reason` in words: Completed, Error, OOMKilled, TimeLimit, Cancelled, Signal, StartError, Lost.
    """

    attempt: int
    code: int | None
    signal: int | None
    reason: str
    message: str
    started: str
    ended: str
    oom: bool = False
    by_platform: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as the engine sees it now."""

    role: str
    index: int
    phase: ReplicaPhase
    pid: int | None = None
    exit: Exit | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """One attempt of one workload as the engine sees it now; `report` is the latest the replica sent.

    `report` has the fields of Kubeflow Trainer's `trainerStatus`: progressPercentage, estimatedRemainingSeconds, metrics.
    """

    uid: str
    attempt: int
    replicas: list[Replica]
    report: dict[str, Any] | None = None
    started: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What an ended attempt left: the `result.json` of a recipe, the folder of its unsaved output, if any, and how far the
    checkpoints go (a number that grows with the work that is saved; 0 without any)."""

    result: dict[str, Any] | None
    output: str | None
    reached: float = 0.0
