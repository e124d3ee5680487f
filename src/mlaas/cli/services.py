"""`mlaas service`: what is done to services beside what every resource knows."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, guarded, options

group = typer.Typer(
    name="service", help="Ask a service, give its canary all traffic, or go back.", no_args_is_help=True
)


@group.command()
@guarded
def ask(
    name: Annotated[str, typer.Argument(help="The service.")],
    instances: Annotated[
        list[str] | None, typer.Argument(help="What it is asked: each a row as JSON, or a text.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A body as clients send it, V1 or V2; '-' for standard input.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Ask its explainer instead.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """Ask a service: a prediction a line, or the whole answer with --json."""
    if bool(instances) == (file is not None):
        raise typer.BadParameter("give what it is asked, for example '[5.1, 3.5, 1.4, 0.2]', or --file.")
    body = _body(file) if file is not None else {"instances": [_instance(text) for text in instances or []]}
    with client(project) as api:
        if explain:
            answer = api.explain(name, body.pop("instances", []), **body)
        elif _tensors(body):
            answer = api.infer(name, body.pop("inputs"), **body)
        else:
            found = api.ask(name, body.pop("instances", []) or body.pop("inputs", []), **body)
            answer = {"predictions": found} if isinstance(found, list) else found
    rows = answer.get("explanations" if explain else "predictions")
    if json or options.json or not isinstance(rows, list):
        output.emit_json(answer)
        return
    for row in rows:
        print(orjson.dumps(row).decode())


def _instance(text: str) -> Any:
    """JSON where it is a row, an object or a number; else the text itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _body(file: Path) -> dict[str, Any]:
    """The document of a file; rows alone count as V1's `instances`."""
    try:
        document = orjson.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}.", param_hint="--file") from None
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}.", param_hint="--file") from None
    if isinstance(document, list):
        return {"instances": document}
    if not isinstance(document, dict) or not document.keys() & {"instances", "inputs"}:
        raise typer.BadParameter(f"{file} holds neither instances nor inputs.", param_hint="--file")
    return document


def _tensors(body: dict[str, Any]) -> bool:
    """Whether a body is V2's: its inputs are tensors with a datatype."""
    inputs = body.get("inputs")
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(each, dict) and "datatype" in each for each in inputs)
    )


@group.command()
@guarded
def promote(
    name: Annotated[str, typer.Argument(help="The service.")],
    canary: Annotated[str | None, typer.Option(help="Which canary, where there are several.")] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Give a service's canary all traffic."""
    with client(project) as api:
        service = api.promote(name, canary)
    if json or options.json:
        output.emit_json(service)
    else:
        print(f"service/{name} promoted")


@group.command()
@guarded
def rollback(
    name: Annotated[str, typer.Argument(help="The service.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """Have a service serve the predictor before the latest one."""
    with client(project) as api:
        service = api.rollback(name)
    if json or options.json:
        output.emit_json(service)
    else:
        print(f"service/{name} rolled back")


def register(app: typer.Typer) -> None:
    app.add_typer(group, rich_help_panel="Resources")
