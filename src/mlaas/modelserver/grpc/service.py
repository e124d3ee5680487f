"""The methods of inference.GRPCInferenceService as functions on bytes, over the dispatch that all protocols share."""

from collections.abc import Awaitable
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.dispatch import Dispatch, deadline_after
from mlaas.modelserver.grpc.call import Call, Method
from mlaas.modelserver.grpc.codec import Buffer, Decoded, Parts, decode, encode
from mlaas.modelserver.grpc.description import configuration, metadata, statistics
from mlaas.modelserver.grpc.messages import INFERENCE, message
from mlaas.modelserver.grpc.unary import unary
from mlaas.modelserver.http.classification import classify
from mlaas.modelserver.http.metadata import EXTENSIONS, server_version
from mlaas.modelserver.predictor import Predictor, Response
from mlaas.modelserver.repository import Model, Served


class InferenceService:
    """All methods by path in `methods`."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.dispatch = dispatch
        self.methods: dict[str, Method] = {f"/{INFERENCE}/ModelInfer": Method(unary=self.infer)}
        for name, answer in (
            ("ServerLive", self._server_live),
            ("ServerReady", self._server_ready),
            ("ModelReady", self._model_ready),
            ("ServerMetadata", self._server_metadata),
            ("ModelMetadata", self._model_metadata),
            ("ModelConfig", self._model_config),
            ("ModelStatistics", self._model_statistics),
            ("RepositoryIndex", self._index),
            ("RepositoryModelLoad", self._load),
            ("RepositoryModelUnload", self._unload),
        ):
            self.methods[f"/{INFERENCE}/{name}"] = Method(unary=unary(f"{name}Request", answer))

    # -- inference --------------------------------------------------------------------------------------------------

    def infer(self, payload: Buffer, call: Call) -> Parts | Awaitable[Parts]:
        """ModelInfer. At once where the model answers at once."""
        decoded = decode(payload, self.dispatch.regions)
        served = self.addressed(decoded, call)
        answer = self.dispatch.infer(served, decoded.request)
        if isinstance(answer, Response):
            return self.encoded(answer, decoded, served)
        return self._later(answer, decoded, served)

    async def _later(self, answer: Awaitable[Response], decoded: Decoded, served: Served) -> Parts:
        return self.encoded(await answer, decoded, served)

    def addressed(self, decoded: Decoded, call: Call) -> Served:
        """The version that the request names, among what the caller may call; the call's metadata and deadline go into the
        request."""
        request = decoded.request
        request.headers = call.headers
        request.deadline = call.deadline
        if request.parameters and "timeout" in request.parameters:
            own = deadline_after(request.parameters["timeout"])
            if own is not None and (request.deadline is None or own < request.deadline):
                request.deadline = own
        return self.model(decoded.model, call).version(decoded.version)

    def encoded(self, answer: Response, decoded: Decoded, served: Served) -> Parts:
        """The answer's bytes. The model's name and version are those addressed, unless the answer names others."""
        if decoded.classes:
            answer.outputs = [
                classify(tensor, decoded.classes[tensor.name], served) if tensor.name in decoded.classes else tensor
                for tensor in answer.outputs
            ]
        placed = None
        if decoded.places:
            regions = self.dispatch.regions
            placed = {
                tensor.name: regions.write(tensor, decoded.places[tensor.name])
                for tensor in answer.outputs
                if tensor.name in decoded.places
            }
        return encode(
            answer,
            answer.model or served.name,
            answer.version or served.version,
            decoded.request.id,
            decoded.raw,
            placed,
        )

    # -- models -----------------------------------------------------------------------------------------------------

    def project(self, call: Call) -> str:
        return self.dispatch.project(call.digest, header=call.project, host=call.authority)

    def model(self, name: str, call: Call) -> Model:
        return self.dispatch.find(self.project(call), name, call.digest)

    async def _signed(self, request: Any, call: Call) -> tuple[Model, Predictor]:
        """The model of a request with `name` and `version`, and its predictor, which is loaded when it is not yet."""
        model = self.model(request.name, call)
        return model, await self.predictor(model.version(request.version))

    async def predictor(self, served: Served) -> Predictor:
        found = self.dispatch.predictor(served)
        return found if isinstance(found, Predictor) else await found

    # -- health and metadata ----------------------------------------------------------------------------------------

    def _server_live(self, request: Any, call: Call) -> Any:
        return message("ServerLiveResponse")(live=True)

    def _server_ready(self, request: Any, call: Call) -> Any:
        return message("ServerReadyResponse")(ready=self.dispatch.ready())

    def _model_ready(self, request: Any, call: Call) -> Any:
        served = self.model(request.name, call).version(request.version)
        return message("ModelReadyResponse")(ready=self.dispatch.model_ready(served))

    def _server_metadata(self, request: Any, call: Call) -> Any:
        return message("ServerMetadataResponse")(name="mlaas", version=server_version(), extensions=EXTENSIONS)

    async def _model_metadata(self, request: Any, call: Call) -> Any:
        return metadata(*await self._signed(request, call))

    async def _model_config(self, request: Any, call: Call) -> Any:
        return configuration(*await self._signed(request, call))

    async def _model_statistics(self, request: Any, call: Call) -> Any:
        project = self.project(call)
        if request.name:
            model = self.model(request.name, call)
            found = [model.version(request.version)] if request.version else list(model.versions.values())
        else:
            models = self.dispatch.models(project, call.digest)
            found = [served for model in models for served in model.versions.values()]
        if self.dispatch.peers is None:
            return statistics((served, served.statistics.values()) for served in found)
        measured = await self.dispatch.peers()
        return statistics((served, measured.of(project, served.name, served.version).values()) for served in found)

    # -- repository -------------------------------------------------------------------------------------------------

    def _index(self, request: Any, call: Call) -> Any:
        answer = message("RepositoryIndexResponse")()
        for model in self.dispatch.models(self.project(call), call.digest):
            for served in model.versions.values():
                if served.shown[0] == "READY" or not request.ready:
                    answer.models.add(
                        name=served.name, version=served.version, state=served.shown[0], reason=served.shown[1]
                    )
        return answer

    async def _load(self, request: Any, call: Call) -> Any:
        parameters = _repository_parameters(request)
        await self.dispatch.load(self.project(call), _named(request), parameters, call.digest)
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, request: Any, call: Call) -> Any:
        parameters = _repository_parameters(request)
        await self.dispatch.unload(self.project(call), _named(request), parameters, call.digest)
        return message("RepositoryModelUnloadResponse")()


def _named(request: Any) -> str:
    if not request.model_name:
        raise Invalid("Which model? model_name is empty.", field="model_name")
    name: str = request.model_name
    return name


def _repository_parameters(request: Any) -> dict[str, Any]:
    values = {}
    for name, parameter in request.parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice:
            values[name] = getattr(parameter, choice)
    return values
