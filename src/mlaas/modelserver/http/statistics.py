"""The statistics extension: what was asked of each version, summed over protocols, times in nanoseconds."""

from collections.abc import Awaitable, Iterable
from typing import Any

from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import Reply, json_reply
from mlaas.modelserver.metrics import CONTENT_TYPE, measure, render, samples
from mlaas.modelserver.repository import Served
from mlaas.modelserver.statistics import Histogram, Measured, Statistics


def statistics(call: Call) -> Answer:
    """`GET /v2/models/stats` and `GET /v2/models/{name}[/versions/{version}]/stats`."""
    dispatch = call.api.dispatch
    target = call.target
    if target.name:
        model = dispatch.find(call.project, target.name, call.digest)
        found = [model.version(target.version)] if target.version else list(model.versions.values())
    else:
        found = [served for model in dispatch.models(call.project, call.digest) for served in model.versions.values()]
    if dispatch.peers is not None:
        return _of_all_fronts(dispatch.peers(), call.project, found)
    return _reply([(served, served.statistics.values()) for served in found])


async def _of_all_fronts(asked: Awaitable[Measured], project: str, found: list[Served]) -> Reply:
    measured = await asked
    return _reply([(served, measured.of(project, served.name, served.version).values()) for served in found])


def _reply(counted: Iterable[tuple[Served, Iterable[Statistics]]]) -> Reply:
    return json_reply({"model_stats": [model_statistics(served, by_protocol) for served, by_protocol in counted]})


def metrics(call: Call) -> Answer:
    """`GET /metrics`: Prometheus, of the models that the caller may call in any project; of all fronts together."""
    peers = call.api.dispatch.peers
    return _metrics(call, None) if peers is None else _metrics_of_all(call, peers())


async def _metrics_of_all(call: Call, asked: Awaitable[Measured]) -> Reply:
    return _metrics(call, await asked)


def _metrics(call: Call, measured: Measured | None) -> Reply:
    api = call.api
    models = [model for model in api.dispatch.repository.models() if api.dispatch.allowed(model, call.digest)]
    if measured is None:
        measured = measure(models, {name: read() for name, read in api.gauges.items()})
    allowed = {(model.project, model.name) for model in models}
    payloads = {key: counts for key, counts in measured.payloads.items() if key in allowed}
    return Reply(render(samples(models, measured), measured.gauges, payloads), 200, CONTENT_TYPE)


def model_statistics(served: Served, by_protocol: Iterable[Statistics] | None = None) -> dict[str, Any]:
    """One entry of `model_stats`. Decoding and encoding are no part of the model's time and count as 0 ns."""
    total = Statistics()
    for each in served.statistics.values() if by_protocol is None else by_protocol:
        total.absorb(each.export())
    failed = sum(total.failed.values())
    executions = sum(total.batches.values())
    compute = _nanoseconds(total.compute)
    nothing = {"count": total.succeeded, "ns": 0}
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": total.last,
        "inference_count": total.rows,
        "execution_count": executions,
        "inference_stats": {
            "success": {"count": total.succeeded, "ns": _nanoseconds(total.total)},
            "fail": {"count": failed, "ns": 0},
            "queue": {"count": total.succeeded, "ns": _nanoseconds(total.queue)},
            "compute_input": nothing,
            "compute_infer": {"count": total.succeeded, "ns": compute},
            "compute_output": nothing,
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": count, "ns": 0},
                "compute_infer": {"count": count, "ns": compute * count // max(executions, 1)},
                "compute_output": {"count": count, "ns": 0},
            }
            for size, count in sorted(total.batches.items())
        ],
        "memory_usage": [],
    }


def _nanoseconds(histogram: Histogram) -> int:
    return round(histogram.total * 1e9)
