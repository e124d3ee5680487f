"""From pydantic's errors to ours: fields by dotted name, one sentence each, and for an unknown key the nearest known one."""

from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError

from mlaas.kernel.errors import Invalid

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], document: Any, prefix: str = "") -> Model:
    """`document` as `model`. Raises Invalid with one entry in `errors` for each wrong field, `prefix` before each name."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error, model, document, prefix) from None


def invalid(error: ValidationError, model: type[BaseModel], document: Any, prefix: str = "") -> Invalid:
    """The error that says what pydantic found."""
    problems = []
    hint = None
    for item in error.errors(include_url=False)[:20]:
        location = item["loc"]
        name = ".".join([*([prefix] if prefix else []), *(str(part)[:80] for part in location)])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message, nearest = _unknown(model, location, document)
            hint = hint or nearest
        elif item["type"] == "missing":
            message = "is missing"
        problems.append({"field": name or prefix or "body", "message": message})
    first = problems[0]
    return Invalid(f"{first['field']}: {first['message']}", hint=hint, field=first["field"], errors=problems)


def nearest(key: str, known: list[str]) -> str | None:
    """The known key that `key` was probably meant to be."""
    return next(iter(get_close_matches(key.lower(), known, n=1, cutoff=0.6)), None)


def _unknown(model: type[BaseModel], location: tuple[int | str, ...], document: Any) -> tuple[str, str | None]:
    key = str(location[-1])
    known = sorted(set().union(*(_keys(m) for m in _models_at(model, location[:-1], document))))
    close = nearest(key, known)
    message = f"there is no key '{key[:80]}'" + (f"; did you mean '{close}'?" if close else "")
    return message, f"Keys here: {', '.join(known)}." if known else None


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _models_at(model: Any, location: tuple[int | str, ...], document: Any) -> list[type[BaseModel]]:
    """The models that the value at `location` may be."""
    models = _models(model, document)
    for part in location:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            document = None
        inner: list[type[BaseModel]] = []
        for candidate in models:
            for name, field in candidate.model_fields.items():
                if part in (name, field.alias):
                    inner += _models(field.annotation, document)
        models = inner or models if isinstance(part, int) else inner
    return models


def _models(annotation: Any, document: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _models(annotation.model_fields["root"].annotation, document)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if _chosen(annotation, document) else []
    if get_origin(annotation) in (Union, UnionType, Annotated, list, dict, tuple):
        return [model for part in get_args(annotation) for model in _models(part, document)]
    return []


def _chosen(model: type[BaseModel], document: Any) -> bool:
    """False when a Literal field of `model` (a discriminator) says that `document` is another one of a union."""
    if not isinstance(document, dict):
        return True
    for name, field in model.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if field.is_required() and choices and name in document and document[name] not in choices:
            return False
    return True
