"""The serving table: everything a model server is told to serve. Pure schema; it comes from `mlaas serve`'s arguments or,
whole, over the administration socket from whoever reconciles services.

The server compares the table with what it serves and corrects itself: sending the same table twice changes nothing.
Field names are KServe's where KServe has the field.
"""

from typing import Any, Literal

import msgspec


class _Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Unknown fields are refused: a typo must not be served as its default."""


class Remote(_Part):
    """A server that somebody else runs. `token_file`: a 0600 file holding the bearer token."""

    url: str
    protocol: Literal["KServe/v1", "KServe/v2", "OpenAI"] = "KServe/v2"
    model_name: str = ""
    token_file: str = ""


class Int8(_Part):
    """Text encoders only: weights in 8 bits where the accuracy on the rows in `source` (a file on this machine; `hash` of its
    content where it is known) falls by at most `max_drop`."""

    source: str
    hash: str = ""
    max_drop: float = 0.01


class Deployment(_Part):
    """One loadable model: a folder (or a remote server), and how it is run. `revision` names it in canaries and status."""

    revision: str
    source: str = ""  # a folder or file on this machine
    hash: str = ""  # of the content, where it is known; "" lets the server compute it
    version: str = "1"
    format: str = ""  # "" detects it from the folder
    remote: Remote | None = None
    trusted: bool = False  # pickle and custom code may be opened
    environment: list[str] = msgspec.field(default_factory=list)  # pip requirements of its own Python environment
    device: str = "cpu"  # cpu | cuda | cuda:N | auto
    compile: bool = True
    int8: Int8 | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)  # of the format
    timeout: float = 60.0  # seconds one request may take
    memory: int = 0  # bytes a worker may use; 0: no limit of its own
    workers: int = 1  # worker processes, for models that are not compiled


class Batcher(_Part):
    """Dynamic batching: a batch closes at `max_batch_size` rows or `max_latency` milliseconds after its first request."""

    max_batch_size: int = 32
    max_latency: float = 0.0  # 0: whatever came in during one turn of the event loop


class Logger(_Part):
    """Payload logging as CloudEvents. `url` is http(s)://, file:// or bus://."""

    url: str
    mode: Literal["all", "request", "response"] = "all"
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class Scaling(_Part):
    """How many workers, by demand. Windows in seconds, as in Knative's autoscaler."""

    min_replicas: int = 1
    max_replicas: int = 1
    scale_metric: Literal["concurrency", "rps"] = "concurrency"
    scale_target: float = 0.0  # 0: the metric's default (concurrency 100, rps 200)
    container_concurrency: int = 0  # requests at once in one worker; 0: no limit
    stable_window: float = 60.0
    panic_window: float = 6.0
    idle_timeout: float = 60.0  # with min_replicas 0: unloaded after this long without a request


class Canary(_Part):
    """A share of the traffic for another deployment; 0 percent is a dark launch (reached by header only)."""

    name: str
    traffic_percent: int
    predictor: Deployment


class Rollout(_Part):
    """How traffic is split. `sticky_header`: requests with the same value stay on one side. `abort`: limits against the stable
    version over the last `window` seconds, e.g. {"error_rate": 0.02, "latency_ratio": 1.5}, at which a canary gets nothing."""

    canary: list[Canary] = msgspec.field(default_factory=list)
    sticky_header: str = ""
    shadow: Deployment | None = None
    abort: dict[str, float] = msgspec.field(default_factory=dict)


class Transformer(_Part):
    """Pre- and post-processing: a Python class in its own file, or a remote server."""

    source: str = ""
    remote: Remote | None = None
    environment: list[str] = msgspec.field(default_factory=list)
    trusted: bool = False


class Explainer(_Part):
    """`method`: shap for tables, attribution for text; or a class in its own file, or a remote server."""

    method: Literal["shap", "attribution", "custom"] = "shap"
    source: str = ""
    remote: Remote | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    trusted: bool = False


class Step(_Part):
    """A step of a graph node (KServe's InferenceStep): exactly one of service, node and url."""

    name: str = ""
    service: str = ""  # a service of the same project, called inside this server
    node: str = ""
    url: str = ""
    data: str = ""  # "$response": the answer before; else the graph's request
    condition: str = ""  # GJSON
    weight: int = 0
    dependency: Literal["Soft", "Hard"] = "Soft"
    map_predictions_to_instances: bool = False


class Node(_Part):
    """A node of a graph. The graph starts at the node `root`."""

    router: Literal["Sequence", "Switch", "Ensemble", "Splitter"]
    steps: list[Step]


class Access(_Part):
    """Who may call. `tokens` are SHA-256 hex digests of bearer tokens; `public` needs none."""

    public: bool = False
    tokens: list[str] = msgspec.field(default_factory=list)


class Service(_Part):
    """One served name of one project: a predictor with what is around it, or a graph."""

    name: str
    project: str = "default"
    predictor: Deployment | None = None
    versions: list[Deployment] = msgspec.field(default_factory=list)  # further ones, answering /versions/{version}
    rollout: Rollout = msgspec.field(default_factory=Rollout)
    transformer: Transformer | None = None
    explainer: Explainer | None = None
    graph: dict[str, Node] = msgspec.field(default_factory=dict)
    batcher: Batcher | None = None
    logger: Logger | None = None
    scaling: Scaling = msgspec.field(default_factory=Scaling)
    access: Access = msgspec.field(default_factory=Access)


class Table(_Part):
    """All of it. `memory` is the budget in bytes for loaded models (0: no budget): least recently used are unloaded."""

    services: list[Service] = msgspec.field(default_factory=list)
    revision: str = ""  # told back in the status: whoever gave the table sees whether the server still has it
    memory: int = 0
    domain: str = ""  # Host: SERVICE.PROJECT.DOMAIN addresses a service
    controlled: bool = False  # somebody reconciles it: repository load and unload answer 403 naming the service
    project_tokens: dict[str, list[str]] = msgspec.field(
        default_factory=dict
    )  # project -> token digests of its members
    service_tokens: dict[str, dict[str, list[str]]] = msgspec.field(
        default_factory=dict
    )  # project -> service -> digests of tokens that call it alone
    expires: dict[str, float] = msgspec.field(default_factory=dict)  # digest -> seconds since the epoch
