"""InferenceGraph v1alpha1: a service that is a graph of others."""

import re
from typing import Any

from mlaas.interop.block import Block, metadata
from mlaas.interop.foreign import Foreign, Notes, Translation, envelope
from mlaas.interop.kserve import GROUP, OVERLAY, components, overlay, pods
from mlaas.interop.kserve.status import of_graph
from mlaas.kernel.context import Context
from mlaas.kernel.mergepatch import merge_patch
from mlaas.kernel.resource import Json, Resource
from mlaas.kinds.service.schema import Node, ServiceSpec, Step

_ROUTERS = ("Sequence", "Splitter", "Ensemble", "Switch")
_CLUSTER_LOCAL = re.compile(
    r"https?://([a-z0-9-]+?)(?:-predictor)?\.([a-z0-9-]+)(?:\.svc(?:\.cluster\.local)?)?(?::\d+)?(/.*)?"
)
"""The address that KServe gives a service within a cluster."""


class InferenceGraph(Foreign):
    group, version, kind, plural, ours = GROUP, "v1alpha1", "InferenceGraph", "inferencegraphs", "service"

    async def read(self, context: Context, document: Json, project: str) -> Translation:
        notes = Notes()
        meta, annotations = metadata(document, project, notes)
        became = graph(document.get("spec"), annotations, str(meta["project"]), notes)
        notes.check()
        translation = Translation({"kind": self.ours, "meta": meta, "spec": became}, notes)
        with translation.relocated():
            translation.document["spec"] = overlay.kept(
                self.api_version, self.kind, annotations, document["spec"], became, ServiceSpec
            )
        return translation

    def shows(self, resource: Resource) -> bool:
        return bool(resource.spec.get("graph"))

    def show(self, resource: Resource) -> Json:
        spec = ServiceSpec.model_validate(resource.spec)
        written = overlay.verbatim(spec, spec.manifest, self.kind)
        shown, annotations = written if written is not None else _written(spec, resource.meta.project)
        return envelope(self, resource, annotations, shown, of_graph(resource))


def graph(given: Any, annotations: dict[str, str], project: str, notes: Notes) -> Json:
    """The spec of ours that an InferenceGraph's spec means."""
    patch = overlay.overlay(annotations, notes)
    overlay.annotated(annotations, notes)
    spec, nodes = Block(given, "spec", notes), {}
    given_nodes = spec.raw("nodes")
    if not isinstance(given_nodes, dict) or not given_nodes:
        notes.refuse("spec.nodes", "must be an object with a node 'root'")
        given_nodes = {}
    elif "root" not in given_nodes:
        notes.refuse("spec.nodes", "has no node 'root', where a graph begins")
    for name, node in given_nodes.items():
        nodes[str(name)] = _node(Block(node, f"spec.nodes.{name}", notes), str(name), project)
    components.unscaled(spec, "a graph runs inside the model server")
    spec.unused("the time limits of its services hold", "timeout", "routerTimeouts")
    spec.unused(pods.NO_POD, "resources")
    pods.pod(spec)
    spec.end()
    return merge_patch({"graph": nodes}, patch)  # type: ignore[no-any-return]


def _node(block: Block, name: str, project: str) -> Json:
    steps = [_step(step, name, place, project) for place, step in enumerate(block.blocks("steps"))]
    router = block.text("routerType", _ROUTERS)
    if not router and not any(item["field"] == block.at("routerType") for item in block.notes.problems):
        block.notes.refuse(block.at("routerType"), "is missing", f"One of {', '.join(_ROUTERS)}.")
    if not steps:
        block.notes.refuse(block.at("steps"), "is empty")
    block.notes.places |= {
        f"spec.graph.{name}": block.path,
        f"spec.graph.{name}.router": block.at("routerType"),
        f"spec.graph.{name}.steps": block.at("steps"),
    }
    block.end()
    return {"router": router, "steps": steps}


def _step(block: Block, node: str, place: int, project: str) -> Json:
    service, inner, url = block.text("serviceName"), block.text("nodeName"), block.text("serviceUrl")
    local = _CLUSTER_LOCAL.fullmatch(url)
    if local is not None and local[2] == project:
        block.notes.warn(
            block.at("serviceUrl"), f"in another sense: the service '{local[1]}' is called inside the server"
        )
        service, url = local[1], ""
    if sum(map(bool, (service, inner, url))) != 1:
        block.notes.refuse(block.path, "names exactly one of serviceName, nodeName and serviceUrl")
    weight = block.integer("weight")
    found: Json = {
        "name": block.text("name"),
        "service": service,
        "node": inner,
        "url": url,
        "data": block.text("data"),
        "condition": block.text("condition"),
        "dependency": block.text("dependency", ("Soft", "Hard")),
        "map_predictions_to_instances": block.boolean("mapPredictionsToInstances"),
    }
    if weight is not None:
        found["weight"] = weight
    ours = f"spec.graph.{node}.steps.{place}"
    block.notes.places |= {
        ours: block.path,
        f"{ours}.url": block.at("serviceUrl"),
        f"{ours}.service": block.at("serviceName"),
        f"{ours}.weight": block.at("weight"),
        f"{ours}.data": block.at("data"),
        f"{ours}.condition": block.at("condition"),
    }
    block.end()
    return {key: value for key, value in found.items() if value not in ("", False)}


# -- back


def _written(spec: ServiceSpec, project: str) -> tuple[Json, dict[str, str]]:
    """An InferenceGraph that says what a spec of ours says."""
    shown = {"nodes": {name: _shown_node(node) for name, node in spec.graph.items()}}
    annotations = dict(spec.manifest.annotations) if spec.manifest is not None else {}
    annotations.pop(OVERLAY, None)
    said = graph(shown, annotations, project, Notes())
    return shown, overlay.with_rest(annotations, said, spec)


def _shown_node(node: Node) -> Json:
    return {"routerType": node.router, "steps": [_shown_step(step) for step in node.steps]}


def _shown_step(step: Step) -> Json:
    found = {
        "name": step.name,
        "serviceName": step.service,
        "nodeName": step.node,
        "serviceUrl": step.url,
        "data": step.data,
        "condition": step.condition,
        "weight": step.weight,
        "dependency": "Hard" if step.dependency == "Hard" else "",
        "mapPredictionsToInstances": step.map_predictions_to_instances,
    }
    return {key: value for key, value in found.items() if value not in ("", 0, False)}
