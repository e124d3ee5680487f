"""`mlaas service`: what is done to services beside what every resource knows."""

from typing import Annotated

import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, guarded, options

group = typer.Typer(name="service", help="Give a canary all traffic, or go back.", no_args_is_help=True)


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
