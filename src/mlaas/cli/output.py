"""How commands print: a table on a terminal, JSON for programs, and the exit codes that scripts can use."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

Json = dict[str, Any]

FAILED = 1
USAGE = 2
NOT_FOUND = 3
DENIED = 4
CONFLICT = 5
UNREACHABLE = 6
TIMEOUT = 124
INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict, "
    "6 no platform answers, 124 time is up, 130 left with Ctrl-C."
)


def exit_code(status: int) -> int:
    """The exit code of an API error with this HTTP status (0: nothing answered)."""
    return {0: UNREACHABLE, 401: DENIED, 403: DENIED, 404: NOT_FOUND, 409: CONFLICT, 412: CONFLICT}.get(status, FAILED)


def emit_json(document: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def emit_yaml(document: Any) -> None:
    import yaml

    sys.stdout.write(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    sys.stdout.flush()


def error(message: str, hint: str | None = None, errors: Sequence[Json] = ()) -> None:
    """`error: what happened`, the fields concerned, and `hint: what to do next`, on standard error."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {_escape(message)}")
    for item in errors:
        line = f"{item.get('field', '')}: {item.get('message', '')}"
        if item.get("message") and message not in (item["message"], line):
            console.print(f"  {_escape(line)}")
    if hint:
        console.print(f"[bold]hint:[/] {_escape(hint)}")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def note(text: str) -> None:
    """A line for the person, on standard error so that pipes stay clean."""
    sys.stdout.flush()  # what was said before stands before it, also where both go into one file
    print(text, file=sys.stderr, flush=True)


def dig(document: Any, path: str) -> Any:
    """The value at a dotted path, None where it ends."""
    for part in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def age(timestamp: str | None) -> str:
    """How long ago, in one unit: 12s, 5m, 3h, 4d."""
    if not timestamp:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()
    return duration(seconds)


def duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size * 1.5:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, whole: bool = False) -> None:
    """Aligned columns without lines. On a terminal the last one is cut at its edge, or with `whole` goes on below itself,
    and no other column ever gives way to it; elsewhere every row is one line."""
    from rich.cells import cell_len

    lines = [list(headings), *map(list, rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    terminal = sys.stdout.isatty()
    if terminal:
        room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
        room = max(room, NARROWEST)
    for i, line in enumerate(lines):
        *cells, last = line
        parts = _fit(last, room, whole) if terminal else [last]
        head = "".join(cell + " " * (width - cell_len(cell) + 2) for cell, width in zip(cells, widths, strict=False))
        for part in parts:
            text = f"{head}{part}".rstrip()
            print(f"\x1b[1m{text}\x1b[0m" if terminal and i == 0 and "NO_COLOR" not in os.environ else text)
            head = " " * cell_len(head)


NARROWEST = 12
"""Cells that the last column of a table keeps on a terminal that is too narrow for the others."""


def _fit(text: str, room: int, whole: bool) -> list[str]:
    """`text` in lines of at most `room` cells: all of it, or the first one with an ellipsis where it is cut."""
    from rich.cells import cell_len, chop_cells, set_cell_size

    if cell_len(text) <= room:
        return [text]
    if not whole:
        return [set_cell_size(text, room - 1).rstrip() + "…"]
    lines = textwrap.wrap(text, room, break_on_hyphens=False)
    return [part for line in lines for part in chop_cells(line, room)]


def waiting(status: Json) -> str:
    """Why a resource is where it is, in one line: the error, the first condition that is not met, how far it is, or how
    good the model is that came out."""
    error_ = status.get("error")
    if isinstance(error_, dict) and error_.get("message"):
        return str(error_["message"])
    if status.get("phase") in ("Pending", "Queued", "Loading", "Degraded", "Failed"):
        for condition in status.get("conditions", []):
            if condition.get("status") == "False" and condition.get("message"):
                return str(condition["message"])
    if status.get("phase") in ("Succeeded", "Failed", "Cancelled"):
        return _quality(status.get("evaluation"))
    return progress_text(status.get("progress"))


def _quality(evaluation: Any) -> str:
    for measure in ("accuracy", "f1", "perplexity", "loss"):
        value = dig(evaluation, measure)
        if isinstance(value, (int, float)):
            return f"{measure} {scalar(value)}"
    return ""


def progress_text(progress: Json | None) -> str:
    if not progress or progress.get("percentage") is None:
        return ""
    text = f"{progress['percentage']:.0f}%"
    if progress.get("remaining_seconds") is not None:
        text += f", {duration(progress['remaining_seconds'])} left"
    return text


def scalar(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        return f"[{', '.join(map(scalar, value))}]"
    if isinstance(value, (dict, list)):
        return orjson.dumps(value).decode()
    return str(value)


def _said(value: Any) -> str:
    """A value within a list: what is set of a small object, in one line."""
    if isinstance(value, dict):
        return ", ".join(
            f"{key} {scalar(item)}"
            for key, item in value.items()
            if item is not False and item not in (None, "", {}, [])
        )
    return scalar(value)


def facts(document: Json, indent: int = 0) -> None:
    """A nested document as indented `key: value` lines."""
    for key, value in document.items():
        pad = "  " * indent
        if isinstance(value, dict) and value:
            print(f"{pad}{key}:")
            facts(value, indent + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{pad}{key}:")
            for item in value[:20]:
                first = True
                for inner, content in item.items():
                    if content in (None, "", {}, []):
                        continue
                    print(f"{pad}  {'- ' if first else '  '}{inner}: {_said(content)}")
                    first = False
            if len(value) > 20:
                print(f"{pad}  ... {len(value) - 20} more")
        elif isinstance(value, list) and value and isinstance(value[0], str):
            print(f"{pad}{key}:")
            for text in value:
                print(f"{pad}  - {text}")
        elif value not in (None, "", {}, []):
            print(f"{pad}{key}: {scalar(value)}")
