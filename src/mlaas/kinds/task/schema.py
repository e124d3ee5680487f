"""The schema of a task's spec: fields of every task, and the recipes' own."""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, ValidatorFunctionWrapHandler, model_validator

from mlaas.kernel.validation import nearest
from mlaas.kinds.task.quantity import Cores, Memory, Seconds
from mlaas.kinds.task.refusal import refuse
from mlaas.kinds.task.rules import check
from mlaas.runtimes.data.spec import Strict
from mlaas.runtimes.embed.spec import IndexParams, SearchParams
from mlaas.runtimes.script.spec import ScriptParams
from mlaas.runtimes.tabular.spec import FitParams
from mlaas.runtimes.transformers.spec import FinetuneParams, PredictParams

Recipe = Literal["finetune", "predict", "index", "search", "script", "fit"]


class TaskResources(Strict):
    """What the task needs: `cpu` in cores (or `500m`), `memory` in bytes (or `2Gi`), `gpu` in whole accelerators.

    What is left out is the recipe's default: `finetune` all cores; `fit` 1 core and 4 GiB; `script` and `index` 1 core and
    1 GiB; `predict` and `search` are interactive, admitted at once.
    """

    cpu: Cores | None = Field(None, gt=0, le=65536)
    memory: Memory | None = Field(None, ge=1 << 20, le=1 << 50)
    gpu: int | None = Field(None, ge=0, le=65536)


class Common(Strict):
    """The fields of every task, whatever its recipe. `suspend` and `priority` may change later; nothing else may."""

    resources: TaskResources = Field(default_factory=TaskResources)
    queue: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    engine: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    environment: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    retries: int = Field(
        0, ge=0, le=1000, description="Runs after a failure of its own; interruptions are not counted."
    )
    priority: int = Field(0, ge=-1_000_000, le=1_000_000)
    suspend: bool = False
    time_limit: Seconds | None = Field(None, gt=0, le=1e9, description="Seconds that one attempt may run, or `2h`.")
    ttl_after_finished: Seconds | None = Field(
        None, ge=0, le=1e9, description="Seconds after its end when the task is deleted, or `7d`. None: it stays."
    )
    keep_checkpoints: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "Common":
        check(self)
        return self


class FinetuneSpec(FinetuneParams, Common):
    recipe: Literal["finetune"]


class PredictSpec(PredictParams, Common):
    recipe: Literal["predict"]


class IndexSpec(IndexParams, Common):
    recipe: Literal["index"]


class SearchSpec(SearchParams, Common):
    recipe: Literal["search"]


class ScriptSpec(ScriptParams, Common):
    recipe: Literal["script"]


class FitSpec(FitParams, Common):
    recipe: Literal["fit"]


AnySpec = FinetuneSpec | PredictSpec | IndexSpec | SearchSpec | ScriptSpec | FitSpec
SPECS: dict[str, type[Common]] = {
    "finetune": FinetuneSpec,
    "predict": PredictSpec,
    "index": IndexSpec,
    "search": SearchSpec,
    "script": ScriptSpec,
    "fit": FitSpec,
}


class TaskSpec(RootModel[Annotated[AnySpec, Field(discriminator="recipe")]]):
    """One of the recipes' specs, told apart by `recipe`. Errors name fields without the recipe in front."""

    @model_validator(mode="wrap")
    @classmethod
    def _by_recipe(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> "TaskSpec":
        if isinstance(value, TaskSpec):
            return value
        if not isinstance(value, dict):
            checked: TaskSpec = handler(value)
            return checked
        recipe = value.get("recipe")
        if recipe is None:
            raise refuse("recipe", f"is missing: one of {', '.join(SPECS)}")
        if not isinstance(recipe, str) or recipe not in SPECS:
            close = nearest(str(recipe), list(SPECS))
            meant = f"; did you mean '{close}'?" if close else f": one of {', '.join(SPECS)}"
            raise refuse("recipe", f"there is no recipe '{str(recipe)[:50]}'{meant}")
        typed: AnySpec = SPECS[recipe].model_validate(value)  # type: ignore[assignment]
        return cls.model_construct(root=typed)


def parse(document: dict[str, Any]) -> AnySpec:
    """The typed spec of a stored task."""
    return TaskSpec.model_validate(document).root


def params_of(spec: AnySpec) -> dict[str, Any]:
    """The recipe's own parameters, as the task file carries them."""
    common = set(Common.model_fields) | {"recipe"}
    return spec.model_dump(mode="json", by_alias=True, exclude=common)
