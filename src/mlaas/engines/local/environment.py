"""The environment of a child: built from an allow-list, never inherited."""

import json
import math
import os
import socket
import sys
from pathlib import Path
from typing import Any

from mlaas.kernel.workload import Role, WorkloadSpec

_PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_CREDENTIALS = ("AWS_", "HF_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SECRET = ("HF_TOKEN",)
_TENSORFLOW_ROLES = frozenset({"chief", "master", "worker", "ps", "evaluator"})

PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])
"""The folder from which `mlaas` is imported; a child must get it from the same place."""


def base() -> dict[str, str]:
    """What every child has."""
    programs = os.path.dirname(sys.executable)
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    environment = {"PATH": f"{programs}{os.pathsep}{path}", "PYTHONUNBUFFERED": "1"}
    environment.update({name: os.environ[name] for name in _PASSED if name in os.environ})
    environment.setdefault("LANG", "C.UTF-8")
    return environment


def recipes(cache: Path) -> dict[str, str]:
    """What recipes, and the fork server that imports for them, have besides: the place of our packages, the settings of the hub
    that its library reads when it is imported, the way out. No secrets of the hub or of a storage."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("HF_") and name not in _SECRET}
    environment.update({name: os.environ[name] for name in _PROXIES if name in os.environ})
    environment.setdefault("HF_HOME", str(cache / "huggingface"))
    path = os.pathsep.join(filter(None, [PACKAGE_ROOT, os.environ.get("PYTHONPATH")]))
    # Threads that spin while they wait make a step ten times as long when another process wants the core (GNU libgomp manual,
    # OMP_WAIT_POLICY): here the cores are shared with the platform and with other tasks.
    waiting = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    return {**environment, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": waiting}


def credentials() -> dict[str, str]:
    """Storage credentials of the platform, for trusted recipes."""
    return {name: value for name, value in os.environ.items() if name.startswith(_CREDENTIALS)}


def telemetry() -> dict[str, str]:
    """Where the platform's own servers send spans (OpenTelemetry's variables). Their headers may hold a secret: nothing else
    gets them."""
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def threads(role: Role) -> str:
    """Threads of a replica's numeric libraries: its cores, rounded up."""
    return str(max(1, math.ceil(role.resources.cpu)))


def ranks(spec: WorkloadSpec) -> list[tuple[Role, int]]:
    """All replicas in the order of their rank."""
    return [(role, index) for role in spec.roles for index in range(role.replicas)]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def gang(spec: WorkloadSpec, rank: int, ports: list[int]) -> dict[str, str]:
    """How the replica finds its peers: the variables of torch.distributed and torchrun (`PET_*`), of TensorFlow where the roles
    are named as its, and the completion index of a Kubernetes indexed Job. Each replica is a node with one process."""
    members = ranks(spec)
    world, (role, index) = len(members), members[rank]
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(ports[0]),
        "WORLD_SIZE": str(world),
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NODE_RANK": str(rank),
        "PET_NNODES": str(world),
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(ports[0]),
        "JOB_COMPLETION_INDEX": str(index),
    }
    if all(member.name.lower() in _TENSORFLOW_ROLES for member in spec.roles):
        environment["TF_CONFIG"] = json.dumps(_tensorflow(spec, ports[1:], role, index))
    return environment


def _tensorflow(spec: WorkloadSpec, ports: list[int], role: Role, index: int) -> dict[str, Any]:
    cluster: dict[str, list[str]] = {}
    for (member, _), port in zip(ranks(spec), ports, strict=True):
        if member.name.lower() != "evaluator":  # it is no part of the cluster (tf.estimator, TF_CONFIG)
            cluster.setdefault(member.name.lower(), []).append(f"127.0.0.1:{port}")
    return {"cluster": cluster, "task": {"type": role.name.lower(), "index": index}}
