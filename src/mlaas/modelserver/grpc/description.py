"""What models say of themselves, as the protocol's messages: the documents of the REST API, field by field."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from mlaas.modelserver.grpc.messages import message
from mlaas.modelserver.http.metadata import configuration as configuration_document
from mlaas.modelserver.http.metadata import document
from mlaas.modelserver.http.statistics import model_statistics
from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.repository import Model, Served
from mlaas.modelserver.statistics import Statistics


def metadata(model: Model, predictor: Predictor) -> Any:
    """ModelMetadataResponse."""
    return _filled("ModelMetadataResponse", document(model, predictor))


def configuration(model: Model, predictor: Predictor) -> Any:
    """ModelConfigResponse. As with Triton, a positive `max_batch_size` means that dims leave the batch out."""
    return _filled("ModelConfigResponse", {"config": configuration_document(model, predictor)})


def statistics(counted: Iterable[tuple[Served, Iterable[Statistics]]]) -> Any:
    """ModelStatisticsResponse: versions, each with its counters by protocol."""
    return _filled(
        "ModelStatisticsResponse", {"model_stats": [model_statistics(served, found) for served, found in counted]}
    )


def _filled(name: str, values: Mapping[str, Any]) -> Any:
    return ParseDict(dict(values), message(name)())
