"""Which column of a data set plays which role, and what its values must be. Pure: both the platform, before a task is accepted,
and the recipes, on Arrow tables (`columns`), check with these words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.spec import DatasetSource

DEFAULTS = {
    "text": "text",
    "text_pair": "text_pair",
    "label": "label",
    "tokens": "tokens",
    "tags": "tags",
    "question": "question",
    "context": "context",
    "answers": "answers",
    "page_content": "text",
}

# Whole numbers in canonical form only: "00044" is a postal code and stays text.
INTEGER = r"^-?(0|[1-9][0-9]{0,17})$"
NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
"""A column of CSV whose cells are all so, or empty, is one of numbers."""

TEXT, WHOLE, FRACTION, NOTHING = "text", "whole numbers", "numbers with a fraction", "no value in any row"


@dataclass(frozen=True, slots=True)
class Need:
    """A role that an objective reads: its values are `text`, a `label` or anything. An optional one is read where its column
    is, unless the role `instead_of` was."""

    role: str
    values: Literal["text", "label", "any"] = "text"
    optional: bool = False
    instead_of: str = ""

    @property
    def field(self) -> str:
        """The key that names the column."""
        return f"dataset.{self.role}_column" if self.role in _DIRECT else f"dataset.loader_kwargs.{self.role}_column"


_DIRECT = ("text", "label")
NEEDS: dict[str, tuple[Need, ...]] = {
    "text-classification": (Need("text"), Need("label", "label"), Need("text_pair", optional=True)),
    "next-sentence-prediction": (Need("text_pair"), Need("text"), Need("label", "label", optional=True)),
    "token-classification": (Need("tokens", "any"), Need("tags", "any")),
    "question-answering": (Need("question"), Need("context"), Need("answers", "any")),
    "masked-lm": (Need("text"),),
    "causal-lm": (Need("text"),),
    "no-objective": (
        Need("text"),
        Need("text_pair", optional=True),
        Need("label", "label", optional=True, instead_of="text_pair"),
    ),
}
"""Objective -> the roles that a training reads, in the order in which they are checked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a column's values: their `kind` in words; how many are missing, and the first such row (from 1)."""

    kind: str
    missing: int = 0
    first: int = 0


def name(columns: Sequence[str], source: DatasetSource, role: str, field: str = "dataset") -> str:
    """The name of the column in a role of `DEFAULTS`: what `<role>_column` says, else the default name.

    Raises Invalid with the columns found and the nearest name; `field` is the key of the data set in the task.
    """
    wanted, key = _wanted(source, role)
    if wanted in columns:
        return wanted
    nearest = get_close_matches(wanted.lower(), [other.lower() for other in columns], n=1, cutoff=0.6)
    match = next((other for other in columns if nearest and other.lower() == nearest[0]), None)
    listing = ", ".join(repr(other[:80]) for other in columns[:50]) or "none"
    example = match or (columns[0][:80] if columns else "name")
    setting = f'"loader_kwargs": {{"{role}_column": "{example}"}}'
    if match:
        hint = f"Did you mean {match!r}? Say so with {setting}."
    elif any(" " in other.strip() or len(other) > 40 for other in columns):
        hint = "The first line must name the columns; this one looks like a row."
    else:
        hint = f"Name it with {setting}, or rename the column."
    raise Invalid(
        f"The data set has no column {wanted!r}. Columns found: {listing}.", field=f"{field}.{key}", hint=hint
    )


def names(source: DatasetSource, wanted: Sequence[str]) -> set[str]:
    """What the columns of these roles are called, where they are there."""
    return {_wanted(source, role)[0] for role in wanted}


def has(columns: Sequence[str], source: DatasetSource, role: str) -> bool:
    """Whether the column is there; a name that the task says explicitly but is not there is an error of `name`."""
    return _wanted(source, role)[0] in columns


def chosen(columns: Sequence[str], source: DatasetSource, objective: str) -> list[tuple[Need, str]]:
    """The roles that an objective reads of these columns, each with its column. Raises Invalid for the first that is missing."""
    found: list[tuple[Need, str]] = []
    for need in NEEDS[objective]:
        if need.instead_of and any(other.role == need.instead_of for other, _ in found):
            continue
        if not need.optional or has(columns, source, need.role):
            found.append((need, name(columns, source, need.role)))
    return found


def check_text(column: str, facts: Facts, field: str) -> None:
    """Texts are text, or whole numbers written out, in every row. Raises Invalid with the first row that has none."""
    if facts.kind not in (TEXT, WHOLE):
        raise Invalid(
            f"The column {column!r} holds {facts.kind}, not text.",
            field=field,
            hint="Name the column that holds the text.",
        )
    if facts.missing:
        raise Invalid(
            f"The column {column!r} has no text in {facts.missing} rows; the first is row {facts.first}.",
            field=field,
            hint="Fill these rows or remove them.",
        )


def check_labels(column: str, facts: Facts, field: str) -> None:
    """Labels are text or whole numbers, in every row; an empty text is none. Raises Invalid with the first row without."""
    if facts.kind not in (TEXT, WHOLE):
        raise Invalid(
            f"The column {column!r} holds {facts.kind}; labels are text or whole numbers.",
            field=field,
            hint="Name the column that holds the labels, or write the labels as text.",
        )
    if facts.missing:
        raise Invalid(
            f"The column {column!r} has no label in {facts.missing} rows; the first is row {facts.first}.",
            field=field,
            hint="Fill these rows or remove them; a class of its own needs a name, for example [Unknown].",
        )


def check_classes(labels: Sequence[str]) -> None:
    """A classifier tells at least two labels apart."""
    if len(labels) < 2:
        raise Invalid(
            f"All rows have one label, {labels[0]!r}: there is nothing to tell apart.",
            field="dataset.label_column",
            hint="A classifier needs rows of at least two labels.",
        )


def check_head(labels: Sequence[str], head: Sequence[str] | None) -> None:
    """The head that a model has, if it has one, knows all labels of the data."""
    unknown = [label for label in labels if head is not None and label not in head]
    if head is not None and unknown:
        raise Invalid(
            f"The model's head does not know the labels {', '.join(map(repr, unknown[:10]))}; it knows "
            f"{', '.join(map(repr, head[:30]))}.",
            field="dataset.label_column",
            hint="Rename the labels in the data set, or start from a model without a classification head.",
        )


def check_weights(weighted: Iterable[str], labels: Sequence[str]) -> None:
    """Only labels that there are can be weighted."""
    unknown = sorted(set(weighted) - set(labels))
    if unknown:
        raise Invalid(
            f"There are no labels {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, labels[:50]))}.",
            field="model_train.class_weights",
            hint="Name labels as the data set does; the others weigh 1.",
        )


def natural(label: str) -> tuple[int, int, str]:
    """The order of labels: whole numbers as numbers, texts as texts after them."""
    digits = label.removeprefix("-")
    return (0, int(label), "") if digits.isascii() and digits.isdigit() and len(digits) < 19 else (1, 0, label)


_NEXT_SENTENCE = {
    **dict.fromkeys(("0", "isnext", "true", "yes", "next"), 0),
    **dict.fromkeys(("1", "notnext", "false", "no", "random"), 1),
}


def next_sentence(label: object) -> int:
    """0 where the second text follows, 1 where it does not. Raises Invalid for a label that says neither."""
    code = _NEXT_SENTENCE.get(str(label).strip().lower().replace("_", "").replace("-", "").replace(" ", ""))
    if code is None:
        raise Invalid(
            f"The label {label!r} says neither that the second text follows nor that it does not.",
            field="dataset.label_column",
            hint="Labels are 0 or is_next, 1 or not_next.",
        )
    return code


def check_documents(column: str, missing: int, rows: int, columns: Sequence[str]) -> None:
    """An index needs a text in some row."""
    if missing and missing == rows:
        raise Invalid(
            f"The column {column!r} has no text in any row.",
            field="dataset.loader_kwargs.page_content_column",
            hint=f"Name the column that holds the text. Columns found: {', '.join(columns)}.",
        )


def _wanted(source: DatasetSource, role: str) -> tuple[str, str]:
    """(column name, the key that says so)."""
    if role in _DIRECT:
        direct = getattr(source, f"{role}_column")
        if direct is not None:
            return str(direct), f"{role}_column"
    given = getattr(source.loader_kwargs, f"{role}_column")
    return str(given if given is not None else DEFAULTS[role]), f"loader_kwargs.{role}_column"
