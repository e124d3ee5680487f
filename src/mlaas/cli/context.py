"""What every command shares: the connection options, the client, errors turned into words and exit codes."""

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from mlaas.cli import output

if TYPE_CHECKING:
    from mlaas.client import Client

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Options:
    """The global options of this invocation."""

    url: str | None = None
    token: str | None = None
    data: Path | None = None
    project: str = "default"
    json: bool = False


options = Options()

Json = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]
Project = Annotated[
    str | None, typer.Option("--project", "-p", help="The project; '-' for all.", envvar="MLAAS_PROJECT")
]


def client(project: str | None = None) -> "Client":
    from mlaas.client import Client

    return Client(options.url, options.token, project=project or options.project, data=options.data)


def seconds(text: str) -> float:
    """A duration on the command line: a number with s, m, h or d behind it; seconds without. Raises BadParameter."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"'{text}' is no duration: write 90s, 30m, 1h or 7d.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def complete_kinds(incomplete: str) -> list[str]:
    """What a shell offers for a kind."""
    return [
        kind
        for kind in ("inferenceservices", "projects", "runtimes", "services", "tasks", "workloads")
        if kind.startswith(incomplete)
    ]


def complete_tasks(incomplete: str) -> list[str]:
    """What a shell offers for the name of a task; nothing when no platform answers, for a shell has no place for errors."""
    from mlaas.client.errors import ApiError
    from mlaas.kernel.errors import Error

    try:
        with client() as api:
            items = api.list("tasks", prefix=incomplete, limit=100)["items"]
    except (ApiError, Error):
        return []
    return [item["meta"]["name"] for item in items]


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Turn what the SDK and the platform raise into `error:` and `hint:` lines and an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlaas.client.errors import ApiError, TaskFailed, WaitTimeout
        from mlaas.kernel.errors import Error

        try:
            return function(*args, **kwargs)
        except ApiError as error:
            output.error(error.detail, error.hint, error.errors)
            raise typer.Exit(output.exit_code(error.status)) from None
        except TaskFailed as error:
            output.error(str(error), error.hint)
            raise typer.Exit(output.FAILED) from None
        except WaitTimeout as error:
            output.error(str(error), "It goes on; look at it with `mlaas describe`.")
            raise typer.Exit(output.TIMEOUT) from None
        except Error as error:
            output.error(error.message, error.hint, error.errors)
            raise typer.Exit(output.exit_code(error.status)) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None

    return run


def localise(value: Any, folder: Path | None = None) -> Any:
    """`value` with every relative local `path` made absolute: on this machine a relative path means the caller's folder."""
    folder = folder or Path.cwd()
    if isinstance(value, list):
        return [localise(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: localise(item, folder) for key, item in value.items()}
    path = value.get("path")
    local = isinstance(path, str) and value.get("storage_type", "local") == "local"
    if local and "://" not in path and not path.startswith(("task:", "/")):
        value["path"] = str(folder / path)
    return value


def source(text: str, **extra: Any) -> dict[str, Any]:
    """A `{path, storage_type}` from one word: s3://..., hf://org/name, task:NAME or a local path."""
    if text.startswith("s3://"):
        return {"path": text, "storage_type": "s3", **extra}
    if text.startswith("hf://"):
        return {"path": text.removeprefix("hf://"), "storage_type": "hugging_face_hub", **extra}
    return {"path": text, "storage_type": "local", **extra}
