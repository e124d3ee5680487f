"""For who runs the platform: doctor and token."""

from typing import Annotated, Any

import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, guarded, options, seconds

token = typer.Typer(no_args_is_help=True, help="Tokens that open the API.")


@token.command("create")
@guarded
def create(
    name: Annotated[
        str | None, typer.Argument(help="Whose it is or what it is for; may be left out for a service.")
    ] = None,
    role: Annotated[str, typer.Option(help="viewer, editor or admin.")] = "editor",
    project: Annotated[list[str] | None, typer.Option("--project", help="May be repeated; all when left out.")] = None,
    days: Annotated[float | None, typer.Option(help="Valid for so many days; for ever when left out.")] = None,
    service: Annotated[str | None, typer.Option(help="It calls this service and does nothing else.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Valid for so long (90s, 30m, 1h, 7d); for a service 1h, renewed by the SDK.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a token. It is shown this once."""
    from mlaas.client import calls

    lifetime = days * 86400 if days else None if ttl is None else seconds(ttl)
    if service is None and name is None:
        raise typer.BadParameter("A token needs a name, or --service.", param_hint="NAME")
    if service is not None and len(project or []) > 1:
        raise typer.BadParameter("A service has one project.", param_hint="--project")
    with client(project[0] if service is not None and project else None) as api:
        if service is not None:
            answer = api.create_service_token(service, ttl=lifetime, token=name)
        else:
            answer = api.send(calls.create_token(name or "", role, project or [], lifetime))
    if json or options.json:
        output.emit_json(answer)
    else:
        print(answer["token"])


@token.command("list")
@guarded
def list_tokens(json: Json = False) -> None:
    """The tokens there are, without their secrets."""
    from mlaas.client import calls

    with client() as api:
        items = api.send(calls.tokens())["items"]
    if json or options.json:
        output.emit_json(items)
        return
    rows = [
        [
            item["name"],
            item["role"],
            ", ".join(item.get("projects") or ["all"]),
            item.get("service") or "",
            str(item.get("expires") or "never"),
        ]
        for item in items
    ]
    output.table(["NAME", "ROLE", "PROJECTS", "SERVICE", "EXPIRES"], rows)


@token.command("delete")
@guarded
def delete(
    name: Annotated[str, typer.Argument(help="The token's name.")],
    service: Annotated[str | None, typer.Option(help="The service that it calls.")] = None,
    project: Project = None,
) -> None:
    """Void a token at once."""
    from mlaas.client import calls

    with client(project) as api:
        if service is not None:
            api.send(calls.delete_service_token(api.project, service, name))
        else:
            api.send(calls.delete_token(name))
    print(f"token/{name} deleted")


@guarded
def doctor(json: Json = False) -> None:
    """Look at this machine and the platform: what is missing, what is full, what to do. Exit code 1 when something is wrong."""
    from mlaas.cli.doctor import examine

    checks = examine()
    bad = any(check["state"] == "bad" for check in checks)
    if json or options.json:
        output.emit_json(checks)
    else:
        _print(checks)
    if bad:
        raise typer.Exit(output.FAILED)


def _print(checks: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "red")}
    console = Console(highlight=False, soft_wrap=True)
    for check in checks:
        mark, colour = marks[check["state"]]
        console.print(Text(mark, style=colour), Text(f"{check['name']}: {check['message']}"))
        if check.get("hint"):
            console.print(Text(f"    {check['hint']}", style="dim"))


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Platform")(doctor)
    app.add_typer(token, name="token", rich_help_panel="Platform")
