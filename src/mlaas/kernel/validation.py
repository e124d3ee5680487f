"""From pydantic's errors to ours: fields by dotted name, one sentence each, and for an unknown key the nearest known one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, RootModel, ValidationError
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

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
        key = location[-2] if location[-1:] == ("[key]",) else None
        name = ".".join([*([prefix] if prefix else []), *(str(part)[:80] for part in location if part != "[key]")])
        message = in_words(item["type"], item.get("ctx") or {}, item["msg"])
        if key is not None:
            name, message = name.removesuffix(f".{str(key)[:80]}"), f"the key '{str(key)[:80]}' {message}"
        if item["type"] == "extra_forbidden":
            message, nearest = _unknown(model, location, document)
            hint = hint or nearest
        elif item["type"] == "missing":
            message = "is missing"
        problems.append({"field": name or prefix or "body", "message": message})
    first = problems[0]
    return Invalid(f"{first['field']}: {first['message']}", hint=hint, field=first["field"], errors=problems)


def in_words(kind: str, context: Mapping[str, Any], message: str) -> str:
    """What pydantic says of a wrong value (its error's type, context and message), as a user would say it."""
    words = _WORDS.get(kind)
    if words is None:
        return message.removeprefix("Value error, ")
    values = {"min_length": 1, "max_length": 0, **context}
    if values["min_length"] == 1 and kind in ("string_too_short", "too_short"):
        return "must not be empty"
    return words.format(**values)


_WORDS = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 64 bits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}


@dataclass(frozen=True, slots=True)
class Matching:
    """A constraint of Annotated texts: `pattern` stands in the JSON schema, and a refusal says `words`."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, value: str) -> str:
        if re.search(self.pattern, value) is None:
            raise ValueError(self.words)
        return value


NAMED = Matching(
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "must be lower-case letters, digits and '-', beginning and ending with a letter or digit",
)
"""Names of resources; their length is a constraint of its own."""


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
