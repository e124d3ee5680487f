"""A predictor of an InferenceService as one of ours."""

from collections.abc import Iterable
from typing import Any

from mlaas.interop.block import Block
from mlaas.interop.kserve import pods, runtimes, storage
from mlaas.interop.kserve.runtimes import Runtime
from mlaas.kernel.resource import Json

FRAMEWORKS = (
    "sklearn", "xgboost", "lightgbm", "onnx", "huggingface", "tensorflow", "pytorch", "triton", "pmml", "paddle",
)  # fmt: skip
"""Blocks that named the framework themselves, before there was `model`."""
_PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
OBJECTIVES = {
    "sequence_classification": "text-classification",
    "token_classification": "token-classification",
    "fill_mask": "masked-lm",
    "text_generation": "causal-lm",
    "question_answering": "question-answering",
    "text_embedding": "no-objective",
}
"""Tasks of KServe's Hugging Face server, as objectives."""


def read(block: Block, ours: str, found: list[Runtime], *, needed: bool) -> Json:
    """The predictor that a block describes; empty, with what is wrong noted, when it describes none.

    `ours` is where it stands in our spec; `needed` is False when an overlay may still name a model.
    """
    notes = block.notes
    present = [key for key in ("model", *FRAMEWORKS) if key in block]
    containers = block.items("containers") if not present else []
    if "containers" in block:
        block.unused("the container of a model that is named beside it", "containers")
    block.refused("several nodes for one model are not supported here", "workerSpec")
    block.refused("several sources for one model are not supported here", "storageUris", hint="Name one storageUri.")
    block.unused(pods.NO_POD, "storageContainerName", "resources")
    if len(present) > 1:
        names = " and ".join(present)
        notes.refuse(block.path, f"has {names}; exactly one says what is served")
        for key in present:
            block.raw(key)
        return {}
    if present:
        return _model(block.block(present[0]), present[0], ours, found)
    if containers:
        return _custom(Block(containers[0], f"{block.at('containers')}[0]", notes), ours, needed)
    if needed:
        notes.refuse(
            block.path, "names nothing to serve", "Write model: {modelFormat: {name: sklearn}, storageUri: ...}."
        )
    return {}


def _model(model: Block, key: str, ours: str, found: list[Runtime]) -> Json:
    notes = model.notes
    name, version = _format(model, key)
    reference = storage.source(model)
    protocol = model.text("protocolVersion", _PROTOCOLS)
    if protocol == "grpc-v1":
        notes.warn(
            model.at("protocolVersion"), "not used: TensorFlow's gRPC is not spoken; V1, V2 and V2 over gRPC are"
        )
    wanted = model.text("runtime")
    chosen = runtimes.choose(found, wanted, name, version, protocol)
    if wanted and chosen is None and not runtimes.built_in(wanted):
        notes.refuse(
            model.at("runtime"),
            f"there is no serving runtime '{wanted[:80]}' for the format '{name}'",
            "Apply it first, or leave it out: the platform's own server serves the format.",
        )
    predictor: Json = dict(chosen.predictor) if chosen else {}
    model.unused("the platform's own server has one version", "runtimeVersion")
    model.unused(pods.NO_IMAGE, "image", "command")
    model.text("name")
    predictor |= arguments(model, predictor)
    for variable in pods.environment(model):
        notes.warn(model.at("env"), f"not used: {variable}; the process that serves the model is the platform's")
    predictor |= resources(model)
    pods.container(model)
    where = model.at("modelFormat.name" if key == "model" else "")
    predictor |= runtimes.format_of(name, chosen, where.rstrip("."), notes)
    notes.places[f"{ours}.model"] = model.at("storageUri")
    notes.places[f"{ours}.format"] = where
    if reference:
        predictor["model"] = reference
    elif "model" not in predictor:
        notes.places[ours] = model.path
    model.end()
    return predictor


def _format(model: Block, key: str) -> tuple[str, str]:
    """The name and version of the format."""
    if key != "model":
        model.notes.warn(model.path, f"deprecated in KServe: write model: {{modelFormat: {{name: {key}}}}}")
        return key, ""
    format = model.block("modelFormat")
    name, version = format.text("name"), format.text("version")
    if not name:
        model.notes.refuse(model.at("modelFormat.name"), "is missing", "For example modelFormat: {name: sklearn}.")
    format.end()
    return name, version


def arguments(model: Block, before: Json, quiet: Iterable[str] = ()) -> Json:
    """What the arguments of KServe's own model servers mean here; the others are named, but for those in `quiet`."""
    given = pods.arguments(model)
    found: Json = {}
    options: dict[str, Any] = dict(before.get("options") or {})
    model_id, where = given.pop("model_id", ("", ""))
    revision, _ = given.pop("model_revision", ("", ""))
    if model_id:
        found["model"] = storage.reference(
            f"hf://{model_id}" + (f":{revision}" if revision else ""), where, model.notes
        )
    for flag, (value, where) in given.items():
        if flag in quiet:
            continue
        if flag == "trust_remote_code":
            found["trusted"] = value.lower() != "false"
        elif flag == "workers" and value.isdigit() and 1 <= int(value) <= 256:
            found["workers"] = int(value)
        elif flag == "task" and value in OBJECTIVES:
            options["objective"] = OBJECTIVES[value]
        elif flag == "model_name":
            model.notes.warn(where, f"not used: a model is served under the name of its service, not as '{value[:80]}'")
        else:
            model.notes.warn(where, f"not used: the platform's own server has no flag '{flag[:80]}'")
    if options:
        found["options"] = options
    return found


def resources(block: Block) -> Json:
    """Limits of a container: memory is a worker's, a GPU asks for one where there is one; cores are not limited."""
    from mlaas.kinds.task.quantity import bytes_of

    found: Json = {}
    given = block.block("resources")
    limits, requests = given.block("limits"), given.block("requests")
    amount = limits.raw("memory")
    if amount is not None:
        try:
            found["memory"] = bytes_of(amount)
        except ValueError as error:
            block.notes.refuse(limits.at("memory"), str(error))
    gpus = {key: side.raw(key) for side in (requests, limits) for key in _gpu_keys(side)}
    if any(str(count) not in ("0", "None") for count in gpus.values()):
        found["device"] = "auto"
        block.notes.warn(given.at("limits"), "in another sense: a GPU is used where there is one, and not counted")
    limits.unused("cores are shared by all models of the server", "cpu", "ephemeral-storage", "hugepages-2Mi")
    requests.unused("nothing is reserved for one model", "cpu", "memory", "ephemeral-storage")
    given.unused(pods.NO_POD, "claims")
    for side in (limits, requests, given):
        side.end()
    return found


def _gpu_keys(block: Block) -> list[str]:
    return [key for key in ("nvidia.com/gpu", "amd.com/gpu") if key in block]


def _custom(container: Block, ours: str, needed: bool) -> Json:
    """A container of the user's own. Its image is not run; where it is told the model's place, as KServe's storage initializer
    is, what lies there is served."""
    notes = container.notes
    variables = pods.environment(container)
    uri = variables.pop("STORAGE_URI", "")
    where = container.at("env.STORAGE_URI")
    for variable in variables:
        notes.warn(container.at("env"), f"not used: {variable}; no image is run here")
    predictor: Json = resources(container)
    if uri:
        predictor["model"] = storage.reference(uri, where, notes)
        notes.places[f"{ours}.model"] = where
        container.unused(pods.NO_IMAGE, "image", "command", "args")
    elif needed:
        notes.refuse(
            container.at("image"),
            "no image is run on one machine",
            "Put the predictor's code (model.py with a class that has load and predict) beside its model and name the folder in "
            'env: [{name: STORAGE_URI, value: file://...}], with the annotation mlaas/spec: "{predictor: {trusted: true}}".',
        )
    container.unused(pods.NO_IMAGE, "image", "command", "args")
    container.text("name")
    container.text("protocolVersion")
    pods.container(container)
    container.end()
    return predictor
