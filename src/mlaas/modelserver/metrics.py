"""Prometheus metrics of what is served, from the statistics that requests leave (text exposition format 0.0.4).

Every model metric has the labels project, model, version and protocol.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mlaas.modelserver.repository import Model, Served
from mlaas.modelserver.statistics import BOUNDS, Measured, Statistics, Usage

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_LABELS = ("project", "model", "version", "protocol")
_VERSION_LABELS = _LABELS[:3]


class Sample(NamedTuple):
    """One version of one model. `statistics`: protocol -> `Statistics.export()`; fronts that share a table are summed there."""

    project: str
    model: str
    version: str
    usage: Usage
    statistics: dict[str, dict[str, Any]]


def samples(models: Iterable[Model], measured: Measured | None = None) -> Iterator[Sample]:
    """What this front knows of some models, or what all fronts `measured` where there are several."""
    for model in models:
        for served in model.versions.values():
            key = (model.project, model.name, served.version)
            by_protocol: dict[str, Statistics] = served.statistics if measured is None else measured.of(*key)
            usage = measured.versions.get(key) if measured is not None else None
            exported = {protocol: found.export() for protocol, found in by_protocol.items()}
            yield Sample(*key, usage or usage_of(served), exported)


def usage_of(served: Served) -> Usage:
    """What a version takes in this front."""
    predictor = served.predictor
    if predictor is None:
        return Usage(ready=False)
    return Usage.of(served.shown[0] == "READY", predictor.memory(), predictor.status())


def measure(models: Iterable[Model], gauges: Mapping[str, float]) -> Measured:
    """What this front counted, for summing over fronts."""
    measured = Measured(gauges=dict(gauges))
    for model in models:
        for served in model.versions.values():
            key = (model.project, model.name, served.version)
            measured.versions[key] = usage_of(served)
            for protocol, found in served.statistics.items():
                measured.requests[*key, protocol] = found
        if model.payloads is not None:
            measured.payloads[model.project, model.name] = {
                "waiting": model.payloads.waiting,
                **model.payloads.counts,
            }
    return measured


def render(
    found: Iterable[Sample],
    gauges: dict[str, float] | None = None,
    payloads: Mapping[tuple[str, str], Mapping[str, int]] | None = None,
) -> bytes:
    """The text of all metrics. `gauges`: values of the server itself by name. `payloads`: project and model -> what became of
    the events of its payload log, and how many wait."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(found), gauges or {}, payloads or {}))
    return generate_latest(registry)


class _Collector:
    def __init__(
        self, found: list[Sample], gauges: dict[str, float], payloads: Mapping[tuple[str, str], Mapping[str, int]]
    ) -> None:
        self._samples = found
        self._gauges = gauges
        self._payloads = payloads

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily as Counter
        from prometheus_client.core import GaugeMetricFamily as Gauge
        from prometheus_client.core import HistogramMetricFamily as Histogram

        requests = Counter("mlaas_inference_requests", "Requests answered.", labels=(*_LABELS, "code"))
        rows = Counter("mlaas_inference_rows", "Rows in the requests that succeeded.", labels=_LABELS)
        in_flight = Gauge("mlaas_inference_in_flight", "Requests waiting for an answer.", labels=_LABELS)
        latencies = {
            "queue": Histogram("mlaas_inference_queue_seconds", "Time until the model began.", labels=_LABELS),
            "compute": Histogram("mlaas_inference_compute_seconds", "Time in the model.", labels=_LABELS),
            "total": Histogram("mlaas_inference_request_seconds", "Time of the whole request.", labels=_LABELS),
        }
        batches = Histogram("mlaas_inference_batch_size", "Rows executed together.", labels=_LABELS)
        for sample in self._samples:
            for protocol, statistics in sample.statistics.items():
                labels = (sample.project, sample.model, sample.version, protocol)
                requests.add_metric((*labels, "200"), statistics["succeeded"])
                for code, count in statistics["failed"].items():
                    requests.add_metric((*labels, code), count)
                rows.add_metric(labels, statistics["rows"])
                in_flight.add_metric(labels, statistics["in_flight"])
                for name, family in latencies.items():
                    family.add_metric(labels, *_buckets(statistics[name]))
                batches.add_metric(labels, *_sizes(statistics["batches"]))
        yield from (requests, rows, in_flight, *latencies.values(), batches)
        yield from self._versions(Counter, Gauge)
        yield from self._logs(Counter, Gauge)
        for name, value in self._gauges.items():
            yield Gauge(name, name.removeprefix("mlaas_").replace("_", " "), value=value)

    def _versions(self, counter: Any, gauge: Any) -> Iterator[Any]:
        ready = gauge("mlaas_model_ready", "1 where the version answers requests.", labels=_VERSION_LABELS)
        memory = gauge("mlaas_model_memory_bytes", "Memory that unloading would free.", labels=_VERSION_LABELS)
        replicas = gauge("mlaas_model_replicas", "Processes that answer; 0: unloaded.", labels=_VERSION_LABELS)
        cold = counter("mlaas_model_cold_starts", "Loads since the start.", labels=_VERSION_LABELS)
        restarts = counter("mlaas_model_restarts", "Workers started in place of dead ones.", labels=_VERSION_LABELS)
        for sample in self._samples:
            labels = (sample.project, sample.model, sample.version)
            ready.add_metric(labels, float(sample.usage.ready))
            memory.add_metric(labels, sample.usage.memory)
            replicas.add_metric(labels, sample.usage.replicas)
            cold.add_metric(labels, sample.usage.cold_starts)
            restarts.add_metric(labels, sample.usage.restarts)
        yield from (ready, memory, replicas, cold, restarts)

    def _logs(self, counter: Any, gauge: Any) -> Iterator[Any]:
        labels = _LABELS[:2]
        events = counter("mlaas_payload_events", "Events of payload logs, by outcome.", labels=(*labels, "outcome"))
        waiting = gauge("mlaas_payload_events_waiting", "Events that wait for their sink.", labels=labels)
        for key, counts in self._payloads.items():
            for outcome in ("sent", "dropped", "failed"):
                events.add_metric((*key, outcome), counts[outcome])
            waiting.add_metric(key, counts["waiting"])
        yield from (events, waiting)


def _buckets(histogram: dict[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative counts by upper bound, and the sum."""
    total = 0
    found = []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram["counts"], strict=True):
        total += count
        found.append((bound, float(total)))
    return found, histogram["total"]


_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384)


def _sizes(batches: dict[str, int]) -> tuple[list[tuple[str, float]], float]:
    counts = {int(size): count for size, count in batches.items()}
    found = [(str(bound), float(sum(count for size, count in counts.items() if size <= bound))) for bound in _SIZES]
    found.append(("+Inf", float(sum(counts.values()))))
    return found, float(sum(size * count for size, count in counts.items()))
