"""The command `mlaas`. Commands live in the modules beside this one; each imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from mlaas.cli import admin, describe, output, resources, serve, services, tasks, up
from mlaas.cli.context import options

app = typer.Typer(
    name="mlaas",
    help="ML-AAS: a machine-learning platform as a service.",
    epilog=output.EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"mlaas {version('mlaas')}")
        raise typer.Exit


@app.callback()
def main(
    url: Annotated[str | None, typer.Option(envvar="MLAAS_URL", help="Address of the platform.")] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="MLAAS_DATA", help="Its data folder, when it runs on this machine.")
    ] = None,
    project: Annotated[str, typer.Option("--project", "-p", envvar="MLAAS_PROJECT", help="The project.")] = "default",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Options that stand before the command hold for every command. The token comes from MLAAS_TOKEN or the data folder."""
    options.url, options.data, options.project, options.json = url, data, project, json


up.register(app)
serve.register(app)
tasks.register(app)
resources.register(app)
describe.register(app)
services.register(app)
admin.register(app)


def run() -> None:
    app()


if __name__ == "__main__":
    run()
