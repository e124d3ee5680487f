"""How many replicas a model needs, as Knative's autoscaler decides it.

Source: knative.dev/docs/serving/autoscaling (KPA). The demand is averaged over a stable window; when the average of a shorter
panic window asks for at least twice of what is there, the decision follows the panic window and never goes down before one
stable window has passed without panic.
"""

import math
from collections import deque
from dataclasses import dataclass

from mlaas.modelserver.table import Scaling

_PANIC_THRESHOLD = 2.0
_MAX_SCALE_UP = 1000.0
_MAX_SCALE_DOWN = 2.0
_TARGET = {"concurrency": 100.0, "rps": 200.0}
_UTILIZATION = 0.7  # Knative's container-concurrency-target-percentage: room to grow while a replica starts


@dataclass(slots=True)
class Demand:
    """What is asked of one model: requests that run or wait now, and how many there were. Requests that a batcher merges are
    counted one by one; those that are answered at once are in `requests` only."""

    now: int = 0
    requests: int = 0


class Autoscaler:
    """Give it the concurrency and the number of requests so far, about once a second; it gives the number of replicas."""

    def __init__(self, scaling: Scaling, replicas: int = 1) -> None:
        """`replicas` is how many there are now."""
        self.scaling = scaling
        target = scaling.scale_target or scaling.container_concurrency or _TARGET[scaling.scale_metric]
        self.target = target * _UTILIZATION
        self._samples: deque[tuple[float, float]] = deque()
        self._last: tuple[float, int] | None = None
        self._panic_until = -math.inf
        self.replicas = max(1, scaling.min_replicas, replicas)

    def desired(self, now: float, concurrency: float, requests: int) -> int:
        """The number of replicas at `now` (seconds of a monotonic clock), within the limits of the service."""
        demand = concurrency if self.scaling.scale_metric == "concurrency" else self._rate(now, requests)
        self._samples.append((now, demand))
        while self._samples[0][0] < now - self.scaling.stable_window:
            self._samples.popleft()
        stable = self._average(now, self.scaling.stable_window)
        panic = self._average(now, self.scaling.panic_window)
        wanted = self._bounded(stable)
        if panic / self.target >= _PANIC_THRESHOLD * self.replicas:
            self._panic_until = now + self.scaling.stable_window
        if now < self._panic_until:
            wanted = max(self.replicas, self._bounded(panic))
        most = self.scaling.max_replicas or math.inf
        self.replicas = int(max(self.scaling.min_replicas, min(wanted, most)))
        return self.replicas

    def _bounded(self, demand: float) -> int:
        """Replicas for a demand, changing by no more than the allowed rates from what there is."""
        wanted = math.ceil(demand / self.target)
        current = max(1, self.replicas)
        return int(min(max(wanted, math.floor(current / _MAX_SCALE_DOWN)), math.ceil(current * _MAX_SCALE_UP)))

    def _average(self, now: float, window: float) -> float:
        values = [demand for at, demand in self._samples if at >= now - window]
        return sum(values) / len(values) if values else 0.0

    def _rate(self, now: float, requests: int) -> float:
        before, self._last = self._last, (now, requests)
        if before is None or now <= before[0]:
            return 0.0
        return max(0, requests - before[1]) / (now - before[0])
