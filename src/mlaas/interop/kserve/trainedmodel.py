"""TrainedModel v1alpha1: a model of a server that an InferenceService stands for. Here it is a service of its own: one model
server serves them all."""

from typing import Any

from mlaas.interop.block import Block, metadata
from mlaas.interop.foreign import Foreign, Notes, Translation, envelope
from mlaas.interop.kserve import GROUP, overlay, runtimes, storage
from mlaas.interop.kserve.status import of_trained_model
from mlaas.kernel.context import Context
from mlaas.kernel.errors import NotFound
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.service.schema import ServiceSpec


class TrainedModel(Foreign):
    group, version, kind, plural, ours = GROUP, "v1alpha1", "TrainedModel", "trainedmodels", "service"

    async def read(self, context: Context, document: Json, project: str) -> Translation:
        notes = Notes()
        meta, annotations = metadata(document, project, notes)
        became = _model(document.get("spec"), annotations, notes)
        notes.check()
        parent = str(document["spec"]["inferenceService"])
        try:
            above = await context.database.get("service", str(meta["project"]), parent)
            if above.spec.get("access") and "access" not in became:
                became["access"] = above.spec["access"]
        except NotFound:
            notes.warn(
                "spec.inferenceService", f"there is no inference service '{parent}' yet; the model is served without"
            )
        translation = Translation({"kind": self.ours, "meta": meta, "spec": became}, notes)
        with translation.relocated():
            translation.document["spec"] = overlay.kept(
                self.api_version, self.kind, annotations, document["spec"], became, ServiceSpec
            )
        return translation

    def shows(self, resource: Resource) -> bool:
        return (resource.spec.get("manifest") or {}).get("kind") == self.kind

    def show(self, resource: Resource) -> Json:
        spec = ServiceSpec.model_validate(resource.spec)
        written = overlay.verbatim(spec, spec.manifest, self.kind)
        if written is None:
            assert spec.manifest is not None
            model = dict(spec.manifest.spec.get("model") or {})
            if spec.predictor is not None and spec.predictor.model:
                model["storageUri"] = storage.shown(spec.predictor.model)
            shown = {**spec.manifest.spec, "model": model}
            said = _model(shown, {}, Notes())
            written = shown, overlay.with_rest(spec.manifest.annotations, said, spec)
        return envelope(self, resource, written[1], written[0], of_trained_model(resource))


def _model(given: Any, annotations: dict[str, str], notes: Notes) -> Json:
    patch = overlay.overlay(annotations, notes)
    overlay.annotated(annotations, notes)
    spec = Block(given, "spec", notes)
    if not spec.text("inferenceService"):
        notes.refuse("spec.inferenceService", "is missing")
    block = spec.block("model")
    uri, framework = block.text("storageUri"), block.text("framework")
    if not uri:
        notes.refuse(block.at("storageUri"), "is missing")
    if not framework:
        notes.refuse(block.at("framework"), "is missing")
    block.unused("models are kept in memory by use, with the server's budget", "memory")
    predictor: Json = {"model": storage.reference(uri, block.at("storageUri"), notes)}
    predictor |= runtimes.format_of(framework, None, block.at("framework"), notes)
    notes.places |= {
        "spec.predictor.model": block.at("storageUri"),
        "spec.predictor.format": block.at("framework"),
    }
    block.end()
    spec.end()
    return merge_patch({"predictor": predictor}, patch)  # type: ignore[no-any-return]
