"""Serving runtimes as a manifest's predictor finds them, and the formats that are served here."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

from mlaas.interop.foreign import Notes
from mlaas.kernel.context import Context
from mlaas.kernel.resource import Json
from mlaas.kernel.store.base import Query
from mlaas.kinds.runtime.spec import KIND, ModelFormat, RuntimeSpec

CLUSTER = "system"
"""The project whose serving runtimes are there for all others."""
_BUILT_IN = frozenset(
    f"kserve-{name}"
    for name in (
        "sklearnserver", "xgbserver", "lgbserver", "huggingfaceserver", "mlserver", "tritonserver", "tensorflow-serving",
        "torchserve", "pmmlserver", "paddleserver", "predictiveserver",
    )
)  # fmt: skip
DETECTED = frozenset({"triton", "auto"})
"""Formats that say nothing of what lies in the folder: it is found there."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One that is there for services of a project. `predictor` are fields that they begin with."""

    name: str
    cluster: bool
    formats: tuple[ModelFormat, ...]
    protocols: tuple[str, ...]
    disabled: bool
    predictor: Json


async def available(context: Context, project: str) -> list[Runtime]:
    """The project's own, then those of all projects."""
    if KIND.name not in context.kinds.by_name:
        return []
    found = []
    for place in dict.fromkeys((project, CLUSTER)):
        page = await context.database.list(Query(kind=KIND.name, projects=frozenset({place}), limit=1000))
        for each in page.items:
            spec = RuntimeSpec.model_validate(each.spec)
            found.append(
                Runtime(
                    each.meta.name,
                    place == CLUSTER,
                    tuple(spec.formats),
                    tuple(spec.protocols),
                    spec.disabled,
                    spec.predictor,
                )
            )
    return found


def choose(found: list[Runtime], wanted: str, format: str, version: str, protocol: str) -> Runtime | None:
    """The runtime of that name, or, where none is named, the one that is taken for the format by itself: the project's before
    the cluster's, then by priority (KServe's order). None: no runtime of anybody's."""
    fitting = []
    for runtime in found:
        if runtime.disabled or (wanted and runtime.name != wanted):
            continue
        if protocol and runtime.protocols and protocol not in runtime.protocols:
            continue
        for each in runtime.formats:
            same = each.name == format and (not version or each.version in ("", version))
            if same and (wanted or each.auto_select):
                fitting.append((runtime.cluster, -each.priority, runtime))
    return min(fitting, key=lambda one: one[:2])[2] if fitting else None


def built_in(name: str) -> bool:
    """Whether a runtime of this name comes with KServe: here the platform's own server stands for it."""
    return name in _BUILT_IN


@lru_cache(maxsize=1)
def served() -> tuple[str, ...]:
    """The formats that the platform's own server knows."""
    from mlaas.modelserver.formats.registry import formats

    return tuple(each.name for each in formats() if each.name != "transformer")


def _environment(name: str, chosen: Runtime | None, where: str, notes: Notes) -> Json:
    """The Python environment of a framework that the platform's own does not have, as the image of KServe's server would."""
    said = chosen is not None and "environment" in chosen.predictor
    if name != "tensorflow" or said or find_spec("tensorflow") is not None:
        return {}
    from mlaas.modelserver.formats.savedmodel import REQUIREMENTS

    notes.warn(
        where,
        f"in another sense: it is served in a Python environment of its own with {', '.join(REQUIREMENTS)}, made at the first "
        "load; `predictor: {environment: {requirements: [...]}}` in the annotation mlaas/spec names others",
    )
    return {"environment": {"requirements": list(REQUIREMENTS)}}


def format_of(name: str, chosen: Runtime | None, where: str, notes: Notes) -> Json:
    """`{format}` for a model of the format `name`, with the environment that it needs, or nothing where it is found in the
    folder."""
    if chosen is not None and "format" in chosen.predictor:
        return {}
    if not name or name in DETECTED:
        return {}
    if name in served():
        return {"format": name} | _environment(name, chosen, where, notes)
    if chosen is not None:
        notes.warn(where, f"in another sense: '{name}' is no format here; the model is served as what its folder holds")
        return {}
    notes.refuse(where, f"the format '{name[:80]}' is not served here", f"Served are {', '.join(served())}.")
    return {}
