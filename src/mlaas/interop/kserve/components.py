"""What stands around a predictor: scaling, batching, payload logging, transformer and explainer."""

from typing import Any

from mlaas.interop.block import Block
from mlaas.interop.kserve import pods, storage
from mlaas.kernel.resource import Json

_METRICS = ("cpu", "memory", "concurrency", "rps")
_AUTOSCALING = "autoscaling.knative.dev/"
CONTAINED = "`concurrency` and `rps` are measured; with others one replica follows the number of requests at once"


def scaling(block: Block, annotations: dict[str, str]) -> Json:
    """`scaling` of ours, from the fields of a component and Knative's annotations."""
    notes = block.notes
    found: Json = {}
    least, most = block.integer("minReplicas"), block.integer("maxReplicas")
    if least is not None:
        found["min_replicas"] = least
    if most:
        found["max_replicas"] = most
    elif least is not None and least > 1:
        found["max_replicas"] = least
    if least is not None and most and least > most:
        notes.refuse(block.at("minReplicas"), f"is {least}, above maxReplicas {most}")
    target, where = block.integer("scaleTarget"), block.at("scaleMetric")
    metric = block.text("scaleMetric", _METRICS)
    if metric in ("cpu", "memory"):
        notes.warn(where, f"not used: {CONTAINED}")
        target = None
    elif metric:
        found["scale_metric"] = metric
    if target is not None:
        found["scale_target"] = float(target)
    concurrency = block.integer("containerConcurrency")
    if concurrency is not None:
        found["container_concurrency"] = concurrency
    block.unused(CONTAINED, "scaleMetricType", "autoScaling")
    block.unused("a new predictor answers when it is loaded, the one before it until then", "deploymentStrategy")
    for ours in ("min_replicas", "max_replicas", "scale_target", "container_concurrency"):
        first, *rest = ours.split("_")
        notes.places[f"spec.scaling.{ours}"] = block.at(first + "".join(word.title() for word in rest))
    return _knative(annotations, block) | found


def _knative(annotations: dict[str, str], block: Block) -> Json:
    """Knative's annotations of the autoscaler, which KServe passes on."""
    from mlaas.kinds.task.quantity import seconds_of

    found: Json = {}
    given = {key.removeprefix(_AUTOSCALING): key for key in annotations if key.startswith(_AUTOSCALING)}

    def number(word: str, convert: Any) -> Any:
        key = given.pop(word, None)
        if key is None:
            return None
        try:
            return convert(annotations[key])
        except ValueError:
            block.notes.refuse(f"metadata.annotations[{key}]", f"'{annotations[key][:40]}' cannot be read")
            return None

    for word, ours, convert in (
        ("min-scale", "min_replicas", int),
        ("minScale", "min_replicas", int),
        ("max-scale", "max_replicas", int),
        ("maxScale", "max_replicas", int),
        ("target", "scale_target", float),
        ("window", "stable_window", seconds_of),
        ("scale-to-zero-pod-retention-period", "idle_timeout", seconds_of),
    ):
        value = number(word, convert)
        if value is not None:
            found[ours] = value
    share = number("panic-window-percentage", float)
    if share is not None:
        found["panic_window"] = max(1.0, found.get("stable_window", 60.0) * share / 100)
    metric = given.pop("metric", None)
    if metric is not None and annotations[metric] in ("concurrency", "rps"):
        found["scale_metric"] = annotations[metric]
    elif metric is not None:
        given["metric"] = metric
    for key in given.values():
        block.notes.warn(f"metadata.annotations[{key}]", "not used: there is no such setting here")
    return found


def unscaled(block: Block, why: str) -> None:
    """Name scaling fields of a component that has no replicas of its own."""
    block.unused(
        why, "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling",
        "containerConcurrency", "deploymentStrategy", "canaryTrafficPercent", "batcher",
    )  # fmt: skip


def batcher(block: Block) -> Json | None:
    """`batcher` of ours; None when there is none."""
    if "batcher" not in block:
        return None
    found: Json = {}
    given = block.block("batcher")
    size, latency = given.integer("maxBatchSize"), given.integer("maxLatency")
    if size:
        found["max_batch_size"] = size
    if latency:
        found["max_latency"] = float(latency)
    given.unused("a batch takes as long as the model's time limit allows", "timeout")
    given.end()
    block.notes.places |= {
        "spec.batcher.max_batch_size": given.at("maxBatchSize"),
        "spec.batcher.max_latency": given.at("maxLatency"),
    }
    return found


def logger(block: Block, annotations: dict[str, str]) -> Json | None:
    """`logger` of ours; None when there is none."""
    if "logger" not in block:
        return None
    found: Json = {}
    given = block.block("logger")
    where, url = given.at("url"), given.text("url")
    if not url:
        block.notes.refuse(
            where, "is missing: there is no default sink here", "Name an http(s)://, file:/// or bus:// URL."
        )
    found["url"] = url
    mode = given.text("mode", ("all", "request", "response"))
    if mode:
        found["mode"] = mode
    names = given.texts("metadataAnnotations")
    metadata = {name: annotations[name] for name in names if name in annotations}
    if metadata:
        found["metadata"] = metadata
    given.unused("events carry no headers of requests", "metadataHeaders")
    given.unused("events are sent one by one", "batchSize", "batchInterval", "marshallerUrl", "storage")
    given.end()
    block.notes.places["spec.logger.url"] = where
    return found


def transformer(block: Block) -> Json:
    """`transformer` of ours: the code that lies where its container's STORAGE_URI says."""
    unscaled(block, "a transformer runs beside its predictor and scales with it")
    block.unused("the predictor's logger sees what the client sees", "logger")
    return _code(block, "transformer")


def explainer(block: Block) -> Json:
    """`explainer` of ours: code of the user's own."""
    unscaled(block, "an explainer runs beside its predictor and scales with it")
    block.unused("explanations are not logged", "logger")
    block.refused(
        "ART's explainers are not there",
        "art",
        hint='SHAP and token attribution are: the annotation mlaas/spec: "{explainer: {method: shap}}".',
    )
    found = _code(block, "explainer")
    return {"method": "custom", **found} if found else {}


def _code(block: Block, ours: str) -> Json:
    notes = block.notes
    found: Json = {}
    block.unused("the time limit of the predictor holds for all of it", "timeout")
    block.unused(pods.NO_POD, "labels", "annotations", "resources")
    pods.pod(block)
    containers = block.items("containers")
    block.end()
    for place, item in enumerate(containers):
        container = Block(item, f"{block.at('containers')}[{place}]", notes)
        if place:
            notes.warn(container.path, "not used: the first container is the component")
            continue
        variables = pods.environment(container)
        uri, where = variables.pop("STORAGE_URI", ""), container.at("env.STORAGE_URI")
        for variable in variables:
            notes.warn(container.at("env"), f"not used: {variable}; no image is run here")
        container.unused(pods.NO_IMAGE, "image", "command", "args")
        container.text("name")
        container.unused(pods.NO_POD, "resources")
        pods.container(container)
        container.end()
        if uri:
            found["source"] = storage.reference(uri, where, notes)
            notes.places[f"spec.{ours}.source"] = where
        notes.places.setdefault(f"spec.{ours}", container.at("env.STORAGE_URI"))
    return found
