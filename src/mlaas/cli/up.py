"""`mlaas up`: the whole platform in this process."""

from pathlib import Path
from typing import Annotated

import typer

from mlaas.cli.context import guarded, options


@guarded
def up(
    data: Annotated[Path | None, typer.Option(help="Data folder; default $XDG_DATA_HOME/mlaas.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the platform; default 8080.")] = None,
    inference_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the model server, HTTP; default 8000.")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the model server, gRPC; default 8001.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM: serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Start the platform. It runs until SIGTERM or Ctrl-C; what it runs goes on meanwhile."""
    from mlaas.app import run
    from mlaas.kernel.settings import Settings

    settings = Settings.from_environment()
    settings.data = data or options.data or settings.data
    settings.host = host or settings.host
    settings.port = settings.port if port is None else port
    settings.inference_port = settings.inference_port if inference_port is None else inference_port
    settings.grpc_port = settings.grpc_port if grpc_port is None else grpc_port
    settings.tls_cert = tls_cert or settings.tls_cert
    settings.tls_key = tls_key or settings.tls_key
    raise typer.Exit(run(settings))


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Platform")(up)
