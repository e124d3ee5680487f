"""What users write of a service. Words are KServe's, in snake_case."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from mlaas.kernel.manifest import Manifest
from mlaas.kernel.resource import NAME, Spec

Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2000)]
Percent = Annotated[int, Field(ge=0, le=100)]


class Environment(Spec):
    """A Python environment of the model's own; built once, kept by its content."""

    requirements: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=500)]], Field(min_length=1, max_length=200)
    ]


class Remote(Spec):
    """A server that somebody else runs."""

    url: Url
    protocol: Literal["KServe/v1", "KServe/v2", "OpenAI"] = "KServe/v2"
    model_name: Annotated[str, Field(max_length=500, description="Its name there; default: the service's.")] = ""


class Code(Spec):
    """A Python class in its own file, or a remote server: exactly one of both."""

    source: Annotated[str, Field(max_length=4000, description="Folder or file, a URI, or task:NAME.")] = ""
    remote: Remote | None = None
    environment: Environment | None = None
    trusted: Annotated[bool, Field(description="Its code is run, in a confined process; must be said.")] = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.source) == (self.remote is not None):
            raise ValueError("name either a source or a remote server")
        return self


class Int8(Spec):
    """Weights of a text encoder in 8 bits, where it stays as good on rows of its owner's."""

    rows: Annotated[
        str,
        Field(min_length=1, max_length=4000, description="File with the model's inputs and, if there is one, label."),
    ]
    max_drop: Annotated[float, Field(ge=0, le=1, description="What may be lost of the accuracy on them.")] = 0.01


class Predictor(Spec):
    """The model, and how it is run: exactly one of `model` and `remote`."""

    model: Annotated[str, Field(max_length=4000, description="Folder or file, a URI, task:NAME, or NAME@ALIAS.")] = ""
    remote: Remote | None = None
    format: Annotated[str, Field(max_length=50, description="Default: found from the folder.")] = ""
    trusted: Annotated[bool, Field(description="Pickles are opened and the folder's code is run; must be said.")] = (
        False
    )
    environment: Environment | None = None
    device: Annotated[str, Field(pattern=r"^(cpu|auto|cuda(:\d+)?)$")] = "cpu"
    compile: Annotated[bool, Field(description="False: served by its own framework always.")] = True
    int8: Int8 | None = None
    options: Annotated[dict[str, Any], Field(description="Of the format.")] = Field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0, le=86400, description="Seconds one request may take.")] = 60.0
    memory: Annotated[int, Field(ge=0, le=1 << 50, description="Bytes a worker may use; 0: no limit.")] = 0
    workers: Annotated[int, Field(ge=1, le=256, description="Least processes of a model that is not compiled.")] = 1

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.model) == (self.remote is not None):
            raise ValueError("name either a model or a remote server")
        if "int8" in self.options:
            raise ValueError("int8 stands beside the options, not in them")
        if self.int8 is not None and self.remote is not None:
            raise ValueError("int8 is for models that are served here")
        return self


class Scaling(Spec):
    """How many replicas, by demand; with `min_replicas` 0 the model leaves memory when idle and the next request loads it."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    scale_metric: Literal["concurrency", "rps"] = "concurrency"
    scale_target: Annotated[float, Field(ge=0, le=1e6, description="0: 100 requests at once, or 200 a second.")] = 0.0
    container_concurrency: Annotated[int, Field(ge=0, le=100_000, description="At once in one replica.")] = 0
    stable_window: Annotated[float, Field(ge=1, le=3600)] = 60.0
    panic_window: Annotated[float, Field(ge=1, le=3600)] = 6.0
    idle_timeout: Annotated[float, Field(ge=0.1, le=86400, description="Seconds without a request.")] = 60.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is above max_replicas")
        return self


class Batcher(Spec):
    """Requests that are answered by one call of the model."""

    max_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 32
    max_latency: Annotated[float, Field(ge=0, le=600_000, description="Milliseconds a batch is held open.")] = 0.0


class Logger(Spec):
    """Payload logging as CloudEvents."""

    url: Annotated[str, Field(pattern=r"^(https?://[^\s/]|bus://|file:///)[^\s]*$", max_length=2000)]
    mode: Literal["all", "request", "response"] = "all"
    metadata: Annotated[dict[str, str], Field(description="In every event, as KServe's `annotations`.")] = Field(
        default_factory=dict
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            found = urlsplit(url)
            usable = found.scheme not in ("http", "https") or (bool(found.hostname) and found.port != 0)
        except ValueError as error:
            raise ValueError(f"is no address: {error}") from None
        if not usable:
            raise ValueError("names no host and port that events could be sent to")
        return url


class Canary(Spec):
    """A share of the traffic for another predictor; 0 percent: reached by the header `mlaas-revision` only."""

    name: Name
    traffic_percent: Percent
    predictor: Predictor


class Abort(Spec):
    """When a canary gets no more traffic, against the stable version over `window` seconds."""

    error_rate: Annotated[float, Field(gt=0, le=1, description="Share of failures above the stable's.")] | None = None
    latency_ratio: Annotated[float, Field(gt=1, le=1000, description="Mean latency over the stable's.")] | None = None
    window: Annotated[float, Field(ge=1, le=86400)] = 60.0
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = 20


class Rollout(Spec):
    """How traffic is split. `canary_traffic_percent`: the share of the latest predictor, the rest stays with the one that was
    served in full before; without it a new predictor takes over as soon as it is loaded."""

    canary_traffic_percent: Percent | None = None
    canary: list[Canary] = Field(default_factory=list, max_length=20)
    sticky_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,100}$")] = ""
    shadow: Predictor | None = None
    abort: Abort | None = None

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if len({canary.name for canary in self.canary}) < len(self.canary):
            raise ValueError("two canaries have the same name")
        if sum(canary.traffic_percent for canary in self.canary) > 100:
            raise ValueError("the canaries' percents are more than 100 together")
        if self.canary and self.canary_traffic_percent is not None:
            raise ValueError("canary_traffic_percent and canary exclude each other")
        return self


class Explainer(Spec):
    """Explanations at `:explain`."""

    method: Literal["shap", "attribution", "custom"] = "shap"
    source: Annotated[str, Field(max_length=4000)] = ""
    remote: Remote | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    trusted: bool = False

    @model_validator(mode="after")
    def _custom(self) -> Self:
        if (self.method == "custom" and not self.source and self.remote is None) or (self.source and self.remote):
            raise ValueError("name either a source or a remote server")
        return self


class Step(Spec):
    """A step of a node: exactly one of service, node and url."""

    name: Annotated[str, Field(max_length=100)] = ""
    service: Annotated[str, Field(max_length=200)] = ""
    node: Annotated[str, Field(max_length=100)] = ""
    url: Annotated[str, Field(pattern=r"^(https?://[^\s]+)?$", max_length=2000)] = ""
    data: Literal["", "$request", "$response"] = ""
    condition: Annotated[str, Field(max_length=2000, description="GJSON path that must exist.")] = ""
    weight: Percent = 0
    dependency: Literal["Soft", "Hard"] = "Soft"
    map_predictions_to_instances: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(map(bool, (self.service, self.node, self.url))) != 1:
            raise ValueError("name exactly one of service, node and url")
        return self


class Node(Spec):
    """A node of a graph."""

    router: Literal["Sequence", "Switch", "Ensemble", "Splitter"]
    steps: Annotated[list[Step], Field(min_length=1, max_length=100)]


class ServiceSpec(Spec):
    """A served name: a predictor with what is around it, or a graph of other services. A host serves nothing by itself: trained
    models (KServe's TrainedModel), which are services of their own, name it."""

    predictor: Predictor | None = None
    transformer: Code | None = None
    explainer: Explainer | None = None
    graph: Annotated[dict[str, Node], Field(max_length=100, description="Starts at the node `root`.")] = Field(
        default_factory=dict
    )
    scaling: Scaling = Field(default_factory=Scaling)
    batcher: Batcher | None = None
    logger: Logger | None = None
    rollout: Rollout = Field(default_factory=Rollout)
    access: Annotated[
        Literal["private", "public"], Field(description="private: bearer tokens of the project's members.")
    ] = "private"
    engine: Annotated[str | None, Field(max_length=100)] = None
    host: Annotated[bool, Field(description="True: neither predictor nor graph; trained models name it.")] = False
    manifest: Annotated[Manifest | None, Field(description="The foreign manifest that it was written as.")] = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum((self.predictor is not None, bool(self.graph), self.host)) != 1:
            raise ValueError("a service has either a predictor or a graph")
        if self.predictor is not None and self.predictor.remote is not None and self._needs_model():
            raise ValueError("explainer.method shap opens the model itself, and a remote server keeps it")
        if not self.graph:
            return self
        if "root" not in self.graph:
            raise ValueError("a graph starts at the node 'root'")
        for name, node in self.graph.items():
            for step in node.steps:
                if step.node and step.node not in self.graph:
                    raise ValueError(f"graph.{name}: there is no node '{step.node}'")
            if node.router == "Splitter" and sum(step.weight for step in node.steps) != 100:
                raise ValueError(f"graph.{name}: the weights of a splitter sum up to 100")
        return self

    def _needs_model(self) -> bool:
        return self.explainer is not None and self.explainer.method == "shap" and self.explainer.remote is None
