"""The institute's form: one document with exactly one action, which decides the recipe."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, create_model

from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import Json, check_name
from mlaas.kernel.validation import NAMED, nearest, validated
from mlaas.kinds.task.schema import SPECS, Common
from mlaas.runtimes.embed.spec import VectorStoreSave
from mlaas.runtimes.script.spec import ScriptParams

ACTIONS = {
    "model_train": "finetune",
    "predict_input": "predict",
    "vector_store_save": "index",
    "search_input": "search",
    "script": "script",
    "estimator": "fit",
}
"""Action key -> recipe."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A form that was read: `name` and `project` None when it does not say; `spec` as its writer put it."""

    name: str | None
    project: str | None
    spec: Json


def read(document: Any) -> Filled:
    """The task that a form asks for. Raises Invalid; fields are named as the form names them."""
    if not isinstance(document, dict):
        raise Invalid("A task is an object with a model and one action.", field="body", hint=_one_of())
    form = {key: value for key, value in document.items() if key not in ("name", "project")}
    if "spec" in form and ("kind" in form or "meta" in form or "metadata" in form):
        raise Invalid(
            "spec: this is a resource; here a task is a model and one action.",
            field="spec",
            hint="Post it to /api/v1/projects/default/tasks, or to /api/v1/apply.",
        )
    if "recipe" in form:
        raise Invalid("recipe: belongs to the generic API; here the action decides.", field="recipe", hint=_one_of())
    action = _action(form)
    recipe = ACTIONS[action]
    if recipe == "script":
        inner = form.pop("script")
        validated(ScriptParams, inner, "script")
        form = {**form, **inner}
    typed: Common = validated(SPECS[recipe], {**form, "recipe": recipe})
    spec: Json = typed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    name, project = document.get("name"), document.get("project")
    if name is not None:
        check_name(name, "name")
    if project is not None:
        check_name(project, "project")
    return Filled(name, project, spec)


def _action(form: Json) -> str:
    present = [key for key in form if key in ACTIONS and form[key] is not None]
    if len(present) == 1:
        return present[0]
    if present:
        raise Invalid(
            f"{present[1]}: a task has exactly one action, this one has {len(present)}: {', '.join(present)}.",
            field=present[1],
            hint="Send a task for each.",
        )
    known = sorted(ACTIONS.keys() | set(SPECS["finetune"].model_fields))
    for key in form:
        close = nearest(str(key), known)
        if key not in known and close in ACTIONS:
            raise Invalid(
                f"{str(key)[:80]}: there is no such key; did you mean '{close}'?", field=str(key)[:80], hint=_one_of()
            )
    raise Invalid("This task has no action.", field="body", hint=_one_of())


def _one_of() -> str:
    return f"Exactly one of: {', '.join(ACTIONS)}."


@lru_cache(maxsize=1)
def form_type() -> Any:
    """The type of a form's body: for the published schema."""
    models: list[type[BaseModel]] = []
    naming: Any = {
        "name": (Annotated[str, Field(max_length=50), NAMED] | None, None),
        "project": (Annotated[str, Field(max_length=50), NAMED] | None, None),
    }
    for action, recipe in ACTIONS.items():
        fields: dict[str, Any] = dict(naming)
        if recipe == "script":
            fields["script"] = (ScriptParams, ...)
            names = list(Common.model_fields)
        else:
            names = [name for name in SPECS[recipe].model_fields if name != "recipe"]
        for name in names:
            info = SPECS[recipe].model_fields[name]
            fields[name] = (info.annotation, info)
        if action == "vector_store_save":
            fields[action] = (VectorStoreSave, ...)
        title = f"{recipe.capitalize()}Form"
        models.append(create_model(title, __config__={"extra": "forbid"}, __doc__=SPECS[recipe].__doc__, **fields))
    union: Any = models[0]
    for model in models[1:]:
        union = union | model
    return union


def schema(ref_template: str = "#/$defs/{model}") -> Json:
    """The published JSON schema of the form: one of six, told apart by their action."""
    return TypeAdapter(form_type()).json_schema(ref_template=ref_template)
