"""An error at a field, from a validator of the whole model."""

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def refuse(field: str, message: str) -> ValidationError:
    """An error at the dotted `field`: a validator of the whole model has no location of its own, this gives it one."""
    location: tuple[str | int, ...] = tuple(int(part) if part.isdigit() else part for part in field.split("."))
    problem = InitErrorDetails(
        type=PydanticCustomError("rule", "{problem}", {"problem": message}), loc=location, input=None
    )
    return ValidationError.from_exception_data("task", [problem])
