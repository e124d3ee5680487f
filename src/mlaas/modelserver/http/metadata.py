"""Health, server and model metadata of the Open Inference Protocol, as JSON everywhere (kserve's client reads JSON; Triton's
reads the status)."""

from collections.abc import Awaitable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mlaas.modelserver.errors import NotReady
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import Reply, json_reply
from mlaas.modelserver.predictor import Predictor, TensorSpec
from mlaas.modelserver.repository import Model

EXTENSIONS = [
    "binary_tensor_data", "classification", "generate", "model_configuration", "model_repository",
    "model_repository(unload_dependents)", "parameters", "schedule_policy", "sequence", "statistics", "system_shared_memory",
]  # fmt: skip


def server_version() -> str:
    try:
        return version("mlaas")
    except PackageNotFoundError:
        return "0"


def alive(call: Call) -> Answer:
    return json_reply({"status": "alive"})


def live(call: Call) -> Answer:
    return json_reply({"live": True})


def ready(call: Call) -> Answer:
    is_ready = call.api.dispatch.ready()
    return json_reply({"live": True, "ready": is_ready}, 200 if is_ready else 503)


def server(call: Call) -> Answer:
    return json_reply({"name": "mlaas", "version": server_version(), "extensions": EXTENSIONS})


def models(call: Call) -> Answer:
    """`GET /v2/models`, as KServe has it."""
    return json_reply({"models": [model.name for model in call.api.dispatch.models(call.project, call.digest)]})


def model_ready(call: Call) -> Answer:
    served = call.served()
    if not call.api.dispatch.model_ready(served):
        error = NotReady(f"Model '{served.name}' is not ready: {served.shown[1] or served.state.lower()}.")
        return json_reply({"error": error.message, "name": served.name, "ready": False}, 503, ((b"retry-after", b"1"),))
    return json_reply({"name": served.name, "ready": True})


def model(call: Call) -> Answer:
    """`GET /v2/models/{name}[/versions/{version}]`. A model that is not loaded yet is loaded: its signature is in its file."""
    found = call.api.dispatch.find(call.project, call.target.name, call.digest)
    served = found.version(call.target.version)
    predictor = call.api.dispatch.predictor(served)
    if isinstance(predictor, Predictor):
        return json_reply(document(found, predictor))
    return _later(found, predictor)


async def _later(found: Model, waiting: Awaitable[Predictor]) -> Reply:
    return json_reply(document(found, await waiting))


def document(found: Model, predictor: Predictor) -> dict[str, Any]:
    """The metadata of a model: names, datatypes and shapes, -1 where a dimension varies."""
    signature = predictor.signature
    answer: dict[str, Any] = {
        "name": found.name,
        "versions": list(found.versions),
        "platform": signature.platform,
        "inputs": [tensor(spec) for spec in signature.inputs],
        "outputs": [tensor(spec) for spec in signature.outputs],
    }
    properties = dict(signature.properties)
    if signature.features:
        properties["features"] = ",".join(signature.features)
    if properties:
        answer["properties"] = properties
    return answer


def tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def config(call: Call) -> Answer:
    """`GET /v2/models/{name}/config`: the part of Triton's model configuration that has a meaning here."""
    found = call.api.dispatch.find(call.project, call.target.name, call.digest)
    served = found.version(call.target.version)
    predictor = call.api.dispatch.predictor(served)
    if isinstance(predictor, Predictor):
        return json_reply(configuration(found, predictor))
    return _config_later(found, predictor)


async def _config_later(found: Model, waiting: Awaitable[Predictor]) -> Reply:
    return json_reply(configuration(found, await waiting))


def configuration(found: Model, predictor: Predictor) -> dict[str, Any]:
    """`max_batch_size` is 0 for a model without a batch dimension; dimensions of a batched one come without the batch."""
    signature = predictor.signature
    batched = signature.batched and all(spec.shape[:1] == (-1,) for spec in (*signature.inputs, *signature.outputs))
    return {
        "name": found.name,
        "platform": signature.platform,
        "backend": signature.platform,
        "version_policy": {"specific": {"versions": [int(word) for word in found.versions if word.isdigit()]}},
        "max_batch_size": (found.max_batch_size or 1 << 16) if batched else 0,
        "input": [_entry(spec, batched) for spec in signature.inputs],
        "output": [_entry(spec, batched) for spec in signature.outputs],
        "instance_group": [{"name": found.name, "kind": "KIND_CPU", "count": 1}],
        "model_transaction_policy": {"decoupled": decoupled(predictor)},
        "parameters": {
            name: {"string_value": str(value)}
            for name, value in predictor.status().items()
            if isinstance(value, str | int | float)
        },
    }


def decoupled(predictor: Predictor) -> bool:
    """Whether a model says that it may give several answers to one request (the property `decoupled` of its signature)."""
    return str(predictor.signature.properties.get("decoupled", "")).lower() in ("1", "true")


def _entry(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    word = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": word, "dims": list(spec.shape[1:] if batched else spec.shape)}
