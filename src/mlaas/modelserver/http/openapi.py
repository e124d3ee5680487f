"""The OpenAPI 3.1 description of the HTTP port, served at `/openapi.json`: V1, the Open Inference Protocol V2, its
extensions."""

from functools import cache
from typing import Any

import orjson

from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import Reply
from mlaas.modelserver.http.metadata import server_version
from mlaas.modelserver.tensors import DTYPES

Json = dict[str, Any]


def document(call: Call) -> Answer:
    return Reply(_text())


@cache
def _text() -> bytes:
    return orjson.dumps(describe())


def describe() -> Json:
    """The document. Every answer that is no success has the schema `Error`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlaas model server", "version": server_version()},
        "paths": {**_health(), **_v1(), **_models(), **_repository(), **_settings(), **_memory()},
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(schema: Json | None, *errors: int) -> Json:
    content = {"application/json": {"schema": schema}} if schema is not None else {}
    found: Json = {"200": {"description": "OK", **({"content": content} if content else {})}}
    for status in errors:
        found[str(status)] = {
            "description": _WORDS[status],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
    return found


_WORDS = {
    400: "The request is not valid; the text says what was expected.",
    403: "What is served here follows the services of the platform.",
    404: "There is no such model or version, or it is not the caller's.",
    409: "The region is registered already.",
    413: "The body is larger than what is accepted.",
    415: "The content coding is not one that is read.",
    429: "Too many requests wait for this model.",
    500: "The model failed.",
    501: "This server does not do that.",
    502: "A remote predictor failed.",
    503: "The model is not ready; Retry-After says when to try again.",
    504: "The model did not answer in time.",
}
_MODEL_ERRORS = (400, 404, 413, 415, 429, 500, 502, 503, 504)


def _get(summary: str, schema: Json | None, *errors: int, name: str) -> Json:
    return {"get": {"operationId": name, "summary": summary, "responses": _answers(schema, *errors)}}


def _post(summary: str, body: Json | None, schema: Json | None, *errors: int, name: str, required: bool = True) -> Json:
    operation: Json = {"operationId": name, "summary": summary, "responses": _answers(schema, *errors)}
    if body is not None:
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": body}}}
    return {"post": operation}


def _parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _of_model(path: str, item: Json, *, versions: bool = True, separator: str = "/") -> Json:
    """An operation on a model, and on one of its versions."""
    found: Json = {}
    for prefix, parameters in (
        ("{model_name}", ["model_name"]),
        ("{model_name}/versions/{model_version}", ["model_name", "model_version"]),
    ):
        if len(parameters) > 1 and not versions:
            continue
        place = path.format(model=prefix)
        operations: Json = {}
        for method, operation in item.items():
            suffix = "_version" if len(parameters) > 1 else ""
            operations[method] = {**operation, "operationId": operation["operationId"] + suffix}
        found[place] = {"parameters": [_parameter(name) for name in parameters], **operations}
    return found


def _health() -> Json:
    return {
        "/": _get("Whether the server lives (V1)", _ref("Status"), name="alive"),
        "/v2": _get("Server metadata", _ref("ServerMetadata"), name="server_metadata"),
        "/v2/health/live": _get("Whether the server lives", _ref("Live"), name="server_live"),
        "/v2/health/ready": _get("Whether the server is ready", _ref("Ready"), 503, name="server_ready"),
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Prometheus metrics",
                "responses": {"200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}},
            }
        },
    }


def _v1() -> Json:
    body = _ref("V1Request")
    return {
        "/v1/models": _get("The models", _ref("V1Models"), name="v1_models"),
        **_of_model("/v1/models/{model}", _get("A model's status", _ref("ModelReady"), 404, 503, name="v1_status")),
        **_of_model(
            "/v1/models/{model}:predict",
            _post("Predict", body, _ref("V1Predictions"), *_MODEL_ERRORS, name="v1_predict"),
        ),
        **_of_model(
            "/v1/models/{model}:explain",
            _post("Explain", body, _ref("V1Explanations"), *_MODEL_ERRORS, 501, name="v1_explain"),
        ),
    }


def _models() -> Json:
    return {
        "/v2/models": _get("The models", _ref("Models"), name="v2_models"),
        "/v2/models/stats": _get("Statistics of all models", _ref("Statistics"), name="statistics"),
        **_of_model("/v2/models/{model}", _get("Model metadata", _ref("ModelMetadata"), 404, 503, name="metadata")),
        **_of_model(
            "/v2/models/{model}/ready",
            _get("Whether a model is ready", _ref("ModelReady"), 404, 503, name="model_ready"),
        ),
        **_of_model(
            "/v2/models/{model}/infer",
            _post("Infer", _ref("InferRequest"), _ref("InferResponse"), *_MODEL_ERRORS, name="infer"),
        ),
        **_of_model(
            "/v2/models/{model}/generate",
            _post("Generate", _ref("GenerateRequest"), {"type": "object"}, *_MODEL_ERRORS, name="generate"),
        ),
        **_of_model("/v2/models/{model}/generate_stream", _stream()),
        **_of_model(
            "/v2/models/{model}/stats",
            _get("A model's statistics", _ref("Statistics"), 404, name="model_statistics"),
        ),
        **_of_model(
            "/v2/models/{model}/config",
            _get("A model's configuration", {"type": "object"}, 404, 503, name="config"),
        ),
    }


def _repository() -> Json:
    return {
        "/v2/repository/index": _post(
            "What there is",
            {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}},
            {"type": "array", "items": _ref("IndexEntry")},
            400,
            name="index",
            required=False,
        ),
        **_of_model(
            "/v2/repository/models/{model}/load",
            _post(
                "Load a model",
                _ref("RepositoryRequest"),
                _ref("Loaded"),
                400,
                403,
                404,
                501,
                503,
                name="load",
                required=False,
            ),
            versions=False,
        ),
        **_of_model(
            "/v2/repository/models/{model}/unload",
            _post(
                "Unload a model",
                _ref("RepositoryRequest"),
                _ref("Unloaded"),
                400,
                403,
                404,
                501,
                name="unload",
                required=False,
            ),
            versions=False,
        ),
    }


def _stream() -> Json:
    operation = _post("Generate piece by piece", _ref("GenerateRequest"), None, *_MODEL_ERRORS, name="generate_stream")
    events = {"schema": {"type": "string", "description": "Server-sent events; the last may be an Error."}}
    operation["post"]["responses"]["200"]["content"] = {"text/event-stream": events}
    return operation


def _settings() -> Json:
    """They can be read; a change to another value is refused."""
    settings = {"type": "object"}

    def both(summary: str, name: str, *errors: int) -> Json:
        change = _post(f"Change {summary}", settings, settings, 400, *errors, name=f"change_{name}", required=False)
        return _get(summary[:1].upper() + summary[1:], settings, *errors, name=name) | change

    return {
        "/v2/trace/setting": both("trace settings", "trace"),
        "/v2/logging": both("log settings", "logging"),
        **_of_model(
            "/v2/models/{model}/trace/setting", both("a model's trace settings", "model_trace", 404), versions=False
        ),
    }


def _memory() -> Json:
    """Regions of shared memory; CUDA's are never served."""
    region = {"parameters": [_parameter("region_name")]}
    found: Json = {}
    for kind, name, schema in (
        ("systemsharedmemory", "system_memory", _ref("Region")),
        ("cudasharedmemory", "cuda_memory", {"type": "object"}),
    ):
        regions = {"type": "array", "items": schema}
        done = {"type": "object", "properties": {"unregister": _TRUE}}
        found[f"/v2/{kind}/status"] = _get("Registered regions", regions, name=f"{name}_status")
        found[f"/v2/{kind}/region/{{region_name}}/status"] = region | _get(
            "A registered region", regions, 404, name=f"{name}_region_status"
        )
        found[f"/v2/{kind}/region/{{region_name}}/register"] = region | _post(
            "Register a region",
            _ref("RegisterRegion") if kind == "systemsharedmemory" else {"type": "object"},
            {"type": "object"},
            *(400, 403, 404, 409, 501),
            name=f"{name}_register",
        )
        found[f"/v2/{kind}/unregister"] = _post("Let all regions go", None, done, name=f"{name}_unregister_all")
        found[f"/v2/{kind}/region/{{region_name}}/unregister"] = region | _post(
            "Let a region go", None, done, name=f"{name}_unregister"
        )
    return found


def _object(required: list[str], **properties: Any) -> Json:
    return {"type": "object", "required": required, "properties": properties}


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_TRUE = {"type": "boolean"}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_DATATYPE = {"type": "string", "enum": list(DTYPES)}
_PARAMETERS = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}

_SCHEMAS: Json = {
    "Error": _object(["error"], error=_TEXT),
    "Status": _object(["status"], status={"const": "alive"}),
    "Live": _object(["live"], live=_TRUE),
    "Ready": _object(["live", "ready"], live=_TRUE, ready=_TRUE),
    "Models": _object(["models"], models={"type": "array", "items": _TEXT}),
    "ServerMetadata": _object(
        ["name", "version", "extensions"], name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}
    ),
    "ModelReady": _object(["name", "ready"], name=_TEXT, ready=_TRUE),
    "TensorMetadata": _object(["name", "datatype", "shape"], name=_TEXT, datatype=_DATATYPE, shape=_SHAPE),
    "ModelMetadata": _object(
        ["name", "platform", "inputs", "outputs"],
        name=_TEXT,
        versions={"type": "array", "items": _TEXT},
        platform=_TEXT,
        inputs={"type": "array", "items": _ref("TensorMetadata")},
        outputs={"type": "array", "items": _ref("TensorMetadata")},
        properties={"type": "object", "additionalProperties": _TEXT},
    ),
    "RequestInput": _object(
        ["name", "shape", "datatype"],
        name=_TEXT,
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_PARAMETERS,
        data={"description": "Row-major, flat or nested as `shape` says."},
    ),
    "RequestOutput": _object(["name"], name=_TEXT, parameters=_PARAMETERS),
    "InferRequest": _object(
        ["inputs"],
        id=_TEXT,
        parameters=_PARAMETERS,
        inputs={"type": "array", "items": _ref("RequestInput"), "minItems": 1},
        outputs={"type": "array", "items": _ref("RequestOutput")},
    ),
    "ResponseOutput": _object(
        ["name", "shape", "datatype"],
        name=_TEXT,
        shape=_SHAPE,
        datatype=_DATATYPE,
        parameters=_PARAMETERS,
        data={"type": "array"},
    ),
    "InferResponse": _object(
        ["model_name", "outputs"],
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters=_PARAMETERS,
        outputs={"type": "array", "items": _ref("ResponseOutput")},
    ),
    "GenerateRequest": {
        "type": "object",
        "properties": {"text_input": _TEXT, "id": _TEXT, "parameters": _PARAMETERS},
    },
    "V1Models": _object(
        ["models", "object", "data"],
        models={"type": "array", "items": _TEXT},
        object={"const": "list"},
        data={"type": "array", "items": {"type": "object"}},
    ),
    "V1Request": {
        "type": "object",
        "properties": {"instances": {"type": "array"}, "inputs": {}, "parameters": _PARAMETERS},
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    },
    "V1Predictions": _object(["predictions"], predictions={"type": "array"}),
    "V1Explanations": _object(["explanations"], explanations={}),
    "RepositoryRequest": {"type": "object", "properties": {"parameters": {"type": ["object", "null"]}}},
    "IndexEntry": _object(
        ["name"],
        name=_TEXT,
        version=_TEXT,
        state={"enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]},
        reason=_TEXT,
    ),
    "RegisterRegion": _object(
        ["key", "byte_size"],
        key=_TEXT | {"description": "The name of the POSIX shared memory object."},
        byte_size=_NUMBER | {"minimum": 1},
        offset=_NUMBER | {"minimum": 0},
    ),
    "Region": _object(["name", "key", "offset", "byte_size"], name=_TEXT, key=_TEXT, offset=_NUMBER, byte_size=_NUMBER),
    "Loaded": _object(["name", "load"], name=_TEXT, load=_TRUE),
    "Unloaded": _object(["name", "unload"], name=_TEXT, unload=_TRUE),
    "Statistics": _object(
        ["model_stats"],
        model_stats={
            "type": "array",
            "items": _object(
                ["name", "version", "inference_count", "execution_count"],
                name=_TEXT,
                version=_TEXT,
                inference_count=_NUMBER,
                execution_count=_NUMBER,
            ),
        },
    ),
}
