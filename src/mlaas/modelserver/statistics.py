"""Counters of one model version and protocol: cheap to add to on the request path, read when somebody asks.

Kept as plain numbers (one thread, the event loop, writes them), so that fronts can be summed; rendered for Prometheus and for
Triton's statistics extension elsewhere.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the latency histograms, in seconds."""


class Histogram:
    """Counts by bound (the last one is all above), and the sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, counts: Iterable[int], total: float) -> None:
        self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
        self.total += total


class Statistics:
    """What one protocol did with one model version. Times are in seconds; `last` is in milliseconds since 1970."""

    __slots__ = ("batches", "compute", "failed", "in_flight", "last", "queue", "rows", "succeeded", "total")

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed: dict[int, int] = {}  # by HTTP status
        self.rows = 0
        self.in_flight = 0
        self.last = 0
        self.queue = Histogram()
        self.compute = Histogram()
        self.total = Histogram()
        self.batches: dict[int, int] = {}  # executions by batch size

    def observe(self, queue: float, compute: float, total: float) -> None:
        """Add the times of one request, in seconds. A request that did not wait has one place in two histograms."""
        place = bisect_left(BOUNDS, total)
        self.total.counts[place] += 1
        self.total.total += total
        if queue:
            self.queue.observe(queue)
            self.compute.observe(compute)
        else:
            self.queue.counts[0] += 1
            self.compute.counts[place if compute == total else bisect_left(BOUNDS, compute)] += 1
            self.compute.total += compute

    def export(self) -> dict[str, Any]:
        """Plain JSON, for summing over fronts."""
        histograms = {name: getattr(self, name) for name in ("queue", "compute", "total")}
        return {
            "succeeded": self.succeeded,
            "failed": {str(status): count for status, count in self.failed.items()},
            "rows": self.rows,
            "in_flight": self.in_flight,
            "last": self.last,
            "batches": {str(size): count for size, count in self.batches.items()},
            **{name: {"counts": found.counts, "total": found.total} for name, found in histograms.items()},
        }

    def absorb(self, exported: dict[str, Any]) -> None:
        """Add another front's `export`."""
        self.succeeded += exported["succeeded"]
        self.rows += exported["rows"]
        self.in_flight += exported["in_flight"]
        self.last = max(self.last, exported["last"])
        for status, count in exported["failed"].items():
            self.failed[int(status)] = self.failed.get(int(status), 0) + count
        for size, count in exported["batches"].items():
            self.batches[int(size)] = self.batches.get(int(size), 0) + count
        for name in ("queue", "compute", "total"):
            getattr(self, name).add(exported[name]["counts"], exported[name]["total"])


@dataclass(slots=True)
class Usage:
    """What one version takes: bytes that unloading would free, processes that answer, loads since the start, and workers that
    were started in the place of dead ones."""

    ready: bool = True
    memory: int = 0
    replicas: int = 0
    cold_starts: int = 0
    restarts: int = 0

    @staticmethod
    def of(ready: bool, memory: int, status: Mapping[str, Any]) -> "Usage":
        """Of a predictor with this `memory()` and `status()`. A model that runs in the front is one replica, one in workers has
        as many as answer."""
        if "workers" in status:
            replicas = sum(worker["state"] == "ready" for worker in status["workers"])
        else:
            replicas = int(status.get("phase", "Ready") == "Ready")
        return Usage(ready, memory, replicas, int(status.get("cold_starts", 0)), int(status.get("restarts", 0)))

    def add(self, other: "Usage") -> None:
        """Another front's: ready where it is in both."""
        self.ready = self.ready and other.ready
        self.memory += other.memory
        self.replicas += other.replicas
        self.cold_starts += other.cold_starts
        self.restarts += other.restarts


@dataclass(slots=True)
class Measured:
    """What several fronts counted, together: by (project, model, version, protocol), by (project, model, version), by name.

    `payloads`: (project, model) -> what became of the events of its payload log (`sent`, `dropped`, `failed`), and `waiting`.
    """

    requests: dict[tuple[str, str, str, str], Statistics] = field(default_factory=dict)
    versions: dict[tuple[str, str, str], Usage] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    payloads: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    def of(self, project: str, model: str, version: str) -> dict[str, Statistics]:
        """One version's statistics by protocol."""
        key = (project, model, version)
        return {each[3]: found for each, found in self.requests.items() if each[:3] == key}

    def absorb(self, exported: dict[str, Any]) -> None:
        """Add a front's `export`."""
        for *key, found in exported["requests"]:
            self.requests.setdefault(tuple(key), Statistics()).absorb(found)
        for *key, usage in exported["versions"]:
            self.versions.setdefault(tuple(key), Usage()).add(Usage(**usage))
        for name, value in exported["gauges"].items():
            self.gauges[name] = self.gauges.get(name, 0.0) + value
        for project, model, counts in exported["payloads"]:
            mine = self.payloads.setdefault((project, model), {})
            for name, count in counts.items():
                mine[name] = mine.get(name, 0) + count

    def export(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "requests": [[*key, found.export()] for key, found in self.requests.items()],
            "versions": [[*key, asdict(usage)] for key, usage in self.versions.items()],
            "gauges": self.gauges,
            "payloads": [[*key, counts] for key, counts in self.payloads.items()],
        }
