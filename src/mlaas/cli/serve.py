"""`mlaas serve`: models behind V1, V2 and gRPC, without a platform."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlaas.cli import output


class Explainer(StrEnum):
    shap = "shap"
    attribution = "attribution"


def serve(
    sources: Annotated[list[str], typer.Argument(metavar="DIR|URI...", help="Folders or files of models.")],
    name: Annotated[str, typer.Option(help="The served name; default: that of the folder.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for HTTP.")] = 8000,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Port for gRPC.")] = 8001,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Fronts that share the ports, one for each core.")] = 1,
    public: Annotated[bool, typer.Option("--public", help="Let anybody call who reaches the port.")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="Tokens that callers need, one a line; made when it is not there.")
    ] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Write a line a request.")] = False,
    format: Annotated[str, typer.Option(help="The models' format; default: found from the folder.")] = "",
    trust: Annotated[bool, typer.Option("--trust", help="Open pickles and run code that models bring.")] = False,
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE", help="What the models' own Python environment has, e.g. tensorflow-cpu; repeatable."
        ),
    ] = None,
    explain: Annotated[
        Explainer | None, typer.Option(help="Answer :explain: shap for tables, attribution for text.")
    ] = None,
    int8: Annotated[
        Path | None,
        typer.Option(
            metavar="ROWS",
            help="Text encoders in 8 bits, if they stay as good on these rows: JSON lines or CSV with the model's inputs"
            " and, if there is one, label.",
        ),
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0, max=1, help="What int8 may lose of the accuracy on them.")] = 0.01,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of the largest request.")] = 64 << 20,
) -> None:
    """Serve models: each folder under its name, at /v1/models/NAME:predict, /v2/models/NAME/infer and over gRPC.

    A folder that holds only folders with numbers as names has these versions. On addresses that other machines reach, callers
    need a token.
    """
    from mlaas.kernel.errors import Error
    from mlaas.modelserver.standalone import Arguments, main

    arguments = Arguments(
        sources=sources,
        name=name,
        host=host,
        port=port,
        grpc_port=grpc_port,
        public=public,
        token_file=token_file,
        access_log=access_log,
        format=format,
        trust=trust,
        requirements=requirement or [],
        max_body=max_body,
        workers=workers,
        explain=explain.value if explain is not None else "",
        int8=int8,
        max_drop=max_drop,
    )
    try:
        main(arguments)
    except Error as error:
        output.error(error.message, error.hint, error.errors)
        raise typer.Exit(output.exit_code(error.status)) from None


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Platform")(serve)
