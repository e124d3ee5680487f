"""All kinds of foreign manifests that are taken."""

from typing import Any

from mlaas.interop.foreign import Foreign
from mlaas.interop.kserve.inferencegraph import InferenceGraph
from mlaas.interop.kserve.inferenceservice import InferenceService
from mlaas.interop.kserve.servingruntime import ClusterServingRuntime, ServingRuntime
from mlaas.interop.kserve.trainedmodel import TrainedModel
from mlaas.kernel.errors import Invalid
from mlaas.kernel.validation import nearest

FOREIGN: tuple[Foreign, ...] = (
    InferenceService(),
    InferenceGraph(),
    TrainedModel(),
    ServingRuntime(),
    ClusterServingRuntime(),
)


def find(document: Any) -> Foreign | None:
    """The kind of a foreign manifest; None for a document of ours. Raises Invalid for a kind or version of a known group that
    is not taken."""
    version = document.get("apiVersion") if isinstance(document, dict) else None
    if not isinstance(version, str) or "/" not in version:
        return None
    group, _, number = version.partition("/")
    kinds = [each for each in FOREIGN if each.group == group]
    if not kinds:
        return None
    kind = document.get("kind")
    found = next((each for each in kinds if each.kind == kind), None)
    if found is None:
        names = [each.kind for each in kinds]
        meant = nearest(str(kind), [name.lower() for name in names])
        near = next((f" Did you mean {name}?" for name in names if name.lower() == meant), "")
        raise Invalid(
            f"{group} has a kind '{str(kind)[:80]}' that is not taken here.{near}",
            field="kind",
            hint=f"Taken are {', '.join(names)}.",
        )
    if found.version != number:
        raise Invalid(
            f"apiVersion: '{version[:80]}' of {found.kind} is not read here.",
            field="apiVersion",
            hint=f"Write apiVersion: {found.api_version}.",
        )
    return found
