"""Which rows a training is tested on: a split of the data set's own, or a share of its rows. Pure."""

import math
from collections.abc import Mapping, Sequence

from mlaas.kernel.errors import Invalid

DEFAULT = 0.1
FIELD = "dataset.train_test_split"
TESTS = ("test", "validation")


def wanted(splits: Sequence[str], name: str | None) -> list[str]:
    """The splits to read: all, or the one that is named. Raises Invalid with those that there are."""
    if name is None:
        return list(splits)
    if name not in splits:
        raise Invalid(
            f"The data set has no split {name!r}; it has {', '.join(splits)}.",
            field="dataset.split",
            hint="Leave split out to read all of them.",
        )
    return [name]


def filled(rows: Mapping[str, int], shown: str) -> list[str]:
    """The splits that have rows. Raises Invalid when none has: the data set `shown` is empty."""
    found = [split for split, count in rows.items() if count]
    if not found:
        raise Invalid(
            f"The data set {shown} is empty: it has no row.",
            field="dataset.path",
            hint="A data set needs a line of column names and at least one row.",
        )
    return found


def parts(splits: Sequence[str]) -> tuple[str, str | None]:
    """(the split to train on, the one held out to test on where there is one)."""
    held_out = next((name for name in TESTS if name in splits and len(splits) > 1), None)
    return "train" if "train" in splits else next(name for name in splits if name != held_out), held_out


def test_rows(count: int, size: float) -> int:
    """How many of `count` rows are the test set: a share in (0, 1), or a number of rows from 1 on.

    Raises Invalid when either set would be empty.
    """
    if not size > 0:
        raise Invalid(
            f"A test set of {size} is none.", field=FIELD, hint="Give a share such as 0.1, or a number of rows."
        )
    if size < 1:
        number = math.floor(count * size + 0.5)
    elif size != int(size):
        raise Invalid(
            f"{size} is neither a share of the rows nor a number of rows.",
            field=FIELD,
            hint="Give a share below 1, such as 0.1, or a whole number of rows.",
        )
    else:
        number = int(size)
    if number < 1:
        raise Invalid(
            f"A share of {size} of {count} rows leaves no test row.",
            field=FIELD,
            hint=f"Take a larger share, at least {1 / count:.2g}." if count > 1 else "The data set needs more rows.",
        )
    if number >= count:
        raise Invalid(
            f"A test set of {number} rows leaves no row of {count} to train on.",
            field=FIELD,
            hint=f"Take fewer than {count} rows.",
        )
    return number
