"""ServingRuntime and ClusterServingRuntime v1alpha1: for which formats, and what services of theirs begin with."""

from typing import Any

from mlaas.interop.block import Block, metadata
from mlaas.interop.foreign import Foreign, Notes, Translation, envelope
from mlaas.interop.kserve import GROUP, overlay, pods, predictor
from mlaas.interop.kserve.runtimes import CLUSTER
from mlaas.kernel.context import Context
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.runtime.spec import RuntimeSpec


class ServingRuntime(Foreign):
    group, version, kind, plural, ours = GROUP, "v1alpha1", "ServingRuntime", "servingruntimes", "runtime"

    async def read(self, context: Context, document: Json, project: str) -> Translation:
        notes = Notes()
        meta, annotations = metadata(document, project, notes)
        meta["project"] = self.place(str(meta["project"]))
        became = _runtime(document.get("spec"), annotations, notes)
        notes.check()
        translation = Translation({"kind": self.ours, "meta": meta, "spec": became}, notes)
        with translation.relocated():
            translation.document["spec"] = overlay.kept(
                self.api_version, self.kind, annotations, document["spec"], became, RuntimeSpec
            )
        return translation

    def shows(self, resource: Resource) -> bool:
        return resource.meta.project != CLUSTER

    def show(self, resource: Resource) -> Json:
        spec = RuntimeSpec.model_validate(resource.spec)
        written = overlay.verbatim(spec, spec.manifest, self.kind)
        shown, annotations = written if written is not None else _written(spec)
        return envelope(self, resource, annotations, shown, {})


class ClusterServingRuntime(ServingRuntime):
    """There for all projects: it lies in the project `system`."""

    kind, plural, scope = "ClusterServingRuntime", "clusterservingruntimes", "platform"

    def shows(self, resource: Resource) -> bool:
        return resource.meta.project == CLUSTER

    def place(self, project: str) -> str:
        return CLUSTER


def _runtime(given: Any, annotations: dict[str, str], notes: Notes) -> Json:
    patch = overlay.overlay(annotations, notes)
    overlay.annotated(annotations, notes)
    if given is None:
        notes.refuse("spec", "is missing")
    spec, formats = Block(given, "spec", notes), []
    for each in spec.blocks("supportedModelFormats"):
        name, priority = each.text("name"), each.integer("priority")
        if not name:
            notes.refuse(each.at("name"), "is missing")
        format: Json = {"name": name, "auto_select": each.boolean("autoSelect")}
        version = each.text("version")
        format |= {"version": version} if version else {}
        format |= {"priority": priority} if priority is not None else {}
        each.end()
        formats.append(format)
    became: Json = {"formats": formats}
    protocols = spec.texts("protocolVersions")
    if protocols:
        became["protocols"] = protocols
    if spec.boolean("disabled"):
        became["disabled"] = True
    served: Json = {}
    for place, container in enumerate(spec.blocks("containers")):
        served |= _container(container) if place == 0 else _aside(container)
    if served:
        became["predictor"] = served
    spec.unused(
        "one server serves all models", "multiModel", "builtInAdapter", "replicas", "storageHelper", "workerSpec"
    )
    spec.unused("addresses are those of the platform", "grpcEndpoint", "grpcDataEndpoint", "httpDataEndpoint")
    spec.unused(pods.NO_POD, "labels", "annotations")
    pods.pod(spec)
    spec.end()
    return merge_patch(became, patch)  # type: ignore[no-any-return]


def _container(container: Block) -> Json:
    container.text("name")
    container.unused(pods.NO_IMAGE, "image", "command")
    found = predictor.resources(container)
    found |= predictor.arguments(container, {}, quiet=("model_name", "model_dir", "http_port", "port", "model"))
    for variable in pods.environment(container):
        container.notes.warn(container.at("env"), f"not used: {variable}; the process that serves is the platform's")
    pods.container(container)
    container.end()
    return found


def _aside(container: Block) -> Json:
    container.notes.warn(container.path, "not used: the first container is the runtime")
    return {}


def _written(spec: RuntimeSpec) -> tuple[Json, dict[str, str]]:
    """A runtime that says what a spec of ours says."""
    formats = []
    for each in spec.formats:
        format: Json = {"name": each.name, "autoSelect": each.auto_select}
        format |= {"version": each.version} if each.version else {}
        format |= {"priority": each.priority} if each.priority else {}
        formats.append(format)
    shown: Json = {"supportedModelFormats": formats, "containers": [{"name": "kserve-container", "image": "mlaas"}]}
    if spec.protocols:
        shown["protocolVersions"] = spec.protocols
    if spec.disabled:
        shown["disabled"] = True
    annotations = dict(spec.manifest.annotations) if spec.manifest is not None else {}
    said = _runtime(shown, {}, Notes())
    return shown, overlay.with_rest(annotations, said, spec)
