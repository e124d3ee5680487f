"""InferenceService v1beta1: a service with a predictor."""

from typing import Any

from mlaas.interop.block import Block, metadata
from mlaas.interop.foreign import Foreign, Notes, Translation, envelope
from mlaas.interop.kserve import GROUP, OVERLAY, components, overlay, pods, predictor, runtimes, storage
from mlaas.interop.kserve.runtimes import Runtime
from mlaas.interop.kserve.status import of_service
from mlaas.kernel.context import Context
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.service.schema import Predictor, ServiceSpec


class InferenceService(Foreign):
    group, version, kind, plural, ours = GROUP, "v1beta1", "InferenceService", "inferenceservices", "service"

    async def read(self, context: Context, document: Json, project: str) -> Translation:
        notes = Notes()
        meta, annotations = metadata(document, project, notes)
        found = await runtimes.available(context, meta["project"])
        became = service(document.get("spec"), annotations, found, notes)
        notes.check()
        translation = Translation({"kind": self.ours, "meta": meta, "spec": became}, notes)
        with translation.relocated():
            translation.document["spec"] = overlay.kept(
                self.api_version, self.kind, annotations, document["spec"], became, ServiceSpec
            )
        return translation

    def shows(self, resource: Resource) -> bool:
        written = resource.spec.get("manifest") or {}
        return not resource.spec.get("graph") and written.get("kind", self.kind) == self.kind

    def show(self, resource: Resource) -> Json:
        spec = ServiceSpec.model_validate(resource.spec)
        written = overlay.verbatim(spec, spec.manifest, self.kind)
        shown, annotations = written if written is not None else _written(spec, resource.status)
        return envelope(self, resource, annotations, shown, of_service(resource, spec))


def service(given: Any, annotations: dict[str, str], found: list[Runtime], notes: Notes) -> Json:
    """The spec of ours that an InferenceService's spec means."""
    patch = overlay.overlay(annotations, notes)
    overlay.annotated(annotations, notes)
    if given is None:
        notes.refuse("spec", "is missing")
    spec = Block(given, "spec", notes)
    if "predictor" not in spec and spec:
        notes.refuse("spec.predictor", "is missing")
    became: Json = {}
    block = spec.block("predictor")
    named = patch.get("predictor") or {}
    served = predictor.read(block, "spec.predictor", found, needed=not (named.get("model") or named.get("remote")))
    timeout = block.integer("timeout")
    if timeout is not None:
        served["timeout"] = float(timeout)
        notes.places["spec.predictor.timeout"] = block.at("timeout")
    became["predictor"] = served
    scaled = components.scaling(block, annotations)
    if scaled:
        became["scaling"] = scaled
    for key, part in (("batcher", components.batcher(block)), ("logger", components.logger(block, annotations))):
        if part is not None:
            became[key] = part
    rollout = _rollout(block, spec, found)
    if rollout:
        became["rollout"] = rollout
    for key, read in (("transformer", components.transformer), ("explainer", components.explainer)):
        if key in spec:
            part = read(spec.block(key))
            _refuse_empty(key, part, patch, notes)
            if part:
                became[key] = part
    _rest(block)
    spec.end()
    became = merge_patch(became, patch)
    if not (became.get("predictor") or {}).keys() & {"model", "remote"} and block.path not in _refused(notes):
        notes.warn("spec.predictor", "names no model: it serves those of TrainedModels that name it")
        became = {"host": True, **{key: value for key, value in became.items() if key in ("access", "engine")}}
    return became


def _rollout(block: Block, spec: Block, found: list[Runtime]) -> Json:
    rollout: Json = {}
    percent = block.integer("canaryTrafficPercent")
    if percent is not None:
        rollout["canary_traffic_percent"] = percent
        block.notes.places["spec.rollout.canary_traffic_percent"] = block.at("canaryTrafficPercent")
    canaries = []
    for place, each in enumerate(spec.blocks("canary")):
        inner = each.block("predictor")
        ours = f"spec.rollout.canary.{place}"
        name, share = inner.text("name"), each.integer("trafficPercent")
        if not name:
            spec.notes.refuse(inner.at("name"), "is missing")
        if share is None:
            spec.notes.refuse(each.at("trafficPercent"), "is missing")
        inner.refused(
            "a canary scales with the predictor",
            "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling",
            "canaryTrafficPercent",
        )  # fmt: skip
        inner.unused("the predictor's holds for its canaries", "batcher", "logger", "containerConcurrency")
        served = predictor.read(inner, f"{ours}.predictor", found, needed=True)
        timeout = inner.integer("timeout")
        if timeout is not None:
            served["timeout"] = float(timeout)
        _rest(inner)
        each.end()
        spec.notes.places |= {f"{ours}.traffic_percent": each.at("trafficPercent"), f"{ours}.name": inner.at("name")}
        canaries.append({"name": name, "traffic_percent": share or 0, "predictor": served})
    if canaries:
        rollout["canary"] = canaries
        spec.notes.places["spec.rollout"] = spec.at("canary")
    return rollout


def _rest(block: Block) -> None:
    """What else a predictor's block may hold."""
    block.unused(pods.NO_POD, "labels", "annotations")
    block.unused("a new predictor answers when it is loaded", "deploymentStrategy")
    block.text("name")
    pods.pod(block)
    block.end()


def _refuse_empty(key: str, part: Json, patch: Json, notes: Notes) -> None:
    """A component whose code is nowhere on this machine cannot be left out in silence: answers would be other ones."""
    if part.get("source") or patch.get(key) or any(item["field"].startswith(f"spec.{key}") for item in notes.problems):
        return
    notes.refuse(
        f"spec.{key}",
        "no image is run on one machine, and its container names no code",
        f"Put the {key}'s Python class into a folder and name it in env: [{{name: STORAGE_URI, value: file://...}}], with the "
        f'annotation mlaas/spec: "{{{key}: {{trusted: true}}}}"; or there "{{{key}: {{remote: {{url: ...}}}}}}".',
    )


def _refused(notes: Notes) -> list[str]:
    return [item["field"] for item in notes.problems]


# -- back


def _written(spec: ServiceSpec, status: Json) -> tuple[Json, dict[str, str]]:
    """An InferenceService that says what a spec of ours says; what it has no field for is in an annotation."""
    block: Json = {}
    if spec.predictor is not None:
        block |= _block(spec.predictor, status, str(status.get("latest", "")))
    scaling, unset = spec.scaling, type(spec.scaling)()
    for theirs, ours in (
        ("minReplicas", "min_replicas"),
        ("maxReplicas", "max_replicas"),
        ("scaleMetric", "scale_metric"),
        ("containerConcurrency", "container_concurrency"),
    ):
        if getattr(scaling, ours) != getattr(unset, ours):
            block[theirs] = getattr(scaling, ours)
    if scaling.scale_target and scaling.scale_target == int(scaling.scale_target):
        block["scaleTarget"] = int(scaling.scale_target)
    if spec.rollout.canary_traffic_percent is not None:
        block["canaryTrafficPercent"] = spec.rollout.canary_traffic_percent
    if spec.batcher is not None:
        block["batcher"] = {"maxBatchSize": spec.batcher.max_batch_size, "maxLatency": int(spec.batcher.max_latency)}
    if spec.logger is not None:
        block["logger"] = {"url": spec.logger.url, "mode": spec.logger.mode}
    shown: Json = {"predictor": block}
    if spec.rollout.canary:
        shown["canary"] = [
            {
                "trafficPercent": each.traffic_percent,
                "predictor": {"name": each.name, **_block(each.predictor, status, "")},
            }
            for each in spec.rollout.canary
        ]
    for key, part in (("transformer", spec.transformer), ("explainer", spec.explainer)):
        if part is not None and part.source:
            variable = {"name": "STORAGE_URI", "value": storage.shown(part.source)}
            shown[key] = {"containers": [{"name": f"kserve-{key}", "image": "mlaas", "env": [variable]}]}
    annotations = dict(spec.manifest.annotations) if spec.manifest is not None else {}
    annotations.pop(OVERLAY, None)
    said = service(shown, annotations, [], Notes())
    return shown, overlay.with_rest(annotations, said, spec)


def _block(served: Predictor, status: Json, revision: str) -> Json:
    """The fields of a predictor's block."""
    if not served.model:
        return {}
    found = {unit.get("revision"): unit.get("format") for unit in status.get("units") or []}
    format = served.format or found.get(revision) or "auto"
    model: Json = {"modelFormat": {"name": format}, "storageUri": storage.shown(served.model)}
    if served.memory:
        model["resources"] = {"limits": {"memory": str(served.memory)}}
    block: Json = {"model": model}
    if served.timeout != Predictor.model_fields["timeout"].default and served.timeout == int(served.timeout):
        block["timeout"] = int(served.timeout)
    return block
