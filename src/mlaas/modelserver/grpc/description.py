"""What models say of themselves, as the protocol's messages: metadata, configuration, statistics."""

from collections.abc import Iterable
from typing import Any

from mlaas.modelserver.grpc.messages import message
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.repository import Model, Served
from mlaas.modelserver.statistics import Statistics

_TYPES = {"BYTES": "TYPE_STRING"}


def metadata(model: Model, signature: Signature) -> Any:
    """ModelMetadataResponse."""
    answer = message("ModelMetadataResponse")(
        name=model.name, versions=list(model.versions), platform=signature.platform
    )
    for specs, tensors in ((signature.inputs, answer.inputs), (signature.outputs, answer.outputs)):
        for spec in specs:
            tensors.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    answer.properties.update({name: str(value) for name, value in signature.properties.items()})
    return answer


def configuration(model: Model, served: Served, signature: Signature) -> Any:
    """ModelConfigResponse. As with Triton, a positive `max_batch_size` means that dims leave the batch out."""
    answer = message("ModelConfigResponse")()
    config = answer.config
    config.name, config.platform, config.backend = model.name, signature.platform, signature.platform
    batcher = model.spec.get("batcher") if signature.batched else None
    if batcher:
        config.max_batch_size = int(batcher.get("max_batch_size", 32))
        config.dynamic_batching.max_queue_delay_microseconds = int(1000 * batcher.get("max_latency", 0))
    skip = 1 if config.max_batch_size else 0
    for specs, tensors in ((signature.inputs, config.input), (signature.outputs, config.output)):
        for spec in specs:
            word = _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")
            tensors.add(name=spec.name, data_type=word, dims=spec.shape[skip:])
    numbers = [int(version) for version in model.versions if version.isdecimal()]
    config.version_policy.specific.versions.extend(numbers)
    config.instance_group.add(name=model.name, count=1, kind="KIND_CPU")
    config.model_transaction_policy.decoupled = decoupled(signature)
    for name, value in signature.properties.items():
        config.parameters[name].string_value = str(value)
    return answer


def decoupled(signature: Signature) -> bool:
    """Whether a model may give several answers to one request."""
    return str(signature.properties.get("decoupled", "")).lower() in ("1", "true")


def statistics(served: Iterable[Served]) -> Any:
    """ModelStatisticsResponse, over all protocols."""
    answer = message("ModelStatisticsResponse")()
    for one in served:
        total = Statistics()
        for counted in one.statistics.values():
            total.absorb(counted.export())
        entry = answer.model_stats.add(name=one.name, version=one.version, last_inference=total.last)
        entry.inference_count = total.rows
        entry.execution_count = sum(total.batches.values())
        stats = entry.inference_stats
        _duration(stats.success, total.succeeded, total.total.total)
        _duration(stats.fail, sum(total.failed.values()), 0.0)
        _duration(stats.queue, total.succeeded, total.queue.total)
        _duration(stats.compute_input, total.succeeded, 0.0)
        _duration(stats.compute_infer, total.succeeded, total.compute.total)
        _duration(stats.compute_output, total.succeeded, 0.0)
        for size, count in sorted(total.batches.items()):
            batch = entry.batch_stats.add(batch_size=size)
            _duration(batch.compute_input, count, 0.0)
            _duration(batch.compute_infer, count, total.compute.total * count / max(entry.execution_count, 1))
            _duration(batch.compute_output, count, 0.0)
        memory = one.predictor.memory() if one.predictor is not None else 0
        if memory:
            entry.memory_usage.add(type="CPU", id=0, byte_size=memory)
    return answer


def _duration(target: Any, count: int, seconds: float) -> None:
    target.count, target.ns = count, int(seconds * 1e9)
