"""Verbs for resources of any kind: get, apply, delete, events. `describe` has its own file."""

import contextlib
import enum
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, complete_kinds, guarded, localise, options

if TYPE_CHECKING:
    from mlaas.client import Client

_NAMES = {
    "isvc": "inferenceservices",
    "ig": "inferencegraphs",
    "tm": "trainedmodels",
}
"""KServe's short names."""

MANIFESTS = frozenset(
    {"inferenceservices", "inferencegraphs", "trainedmodels", "servingruntimes", "clusterservingruntimes"}
)
"""Kinds that are shown as manifests of KServe's (`mlaas.client.calls.MANIFESTS`)."""
_OURS = {
    "servingruntimes": "runtimes",
    **dict.fromkeys(("inferenceservices", "inferencegraphs", "trainedmodels"), "services"),
}
"""What they are here: that has events."""

COLUMNS: dict[str, list[tuple[str, str]]] = {
    "tasks": [("PHASE", "status.phase"), ("RECIPE", "spec.recipe")],
    "workloads": [("PHASE", "status.phase"), ("ATTEMPT", "status.attempt")],
    "services": [("PHASE", "status.phase"), ("REVISION", "status.revision"), ("URL", "status.url")],
    "inferenceservices": [
        ("URL", "status.url"),
        ("READY", "ready"),
        ("REVISION", "status.components.predictor.latestReadyRevision"),
    ],
    "inferencegraphs": [("URL", "status.url"), ("READY", "ready")],
    "trainedmodels": [("URL", "status.url"), ("READY", "ready")],
    "runtimes": [("DISABLED", "spec.disabled"), ("FORMATS", "formats")],
    "servingruntimes": [("DISABLED", "spec.disabled"), ("FORMATS", "formats")],
    "clusterservingruntimes": [("DISABLED", "spec.disabled"), ("FORMATS", "formats")],
}
"""Columns between name and age of the kinds that this client knows; others show their phase."""


class Form(enum.StrEnum):
    """How resources are printed."""

    table = "table"
    yaml = "yaml"
    json = "json"


def _plural(kind: str) -> str:
    kind = kind.lower()
    kind = _NAMES.get(kind, kind)
    return kind if kind.endswith("s") else f"{kind}s"


@contextlib.contextmanager
def known(api: "Client", kind: str) -> Iterator[str]:
    """The plural of a kind. When a call with it finds nothing because the platform has no such kind, the error says which
    kinds there are."""
    from mlaas.client.calls import Call
    from mlaas.client.errors import ApiError

    plural = _plural(kind)
    try:
        yield plural
    except ApiError as error:
        if error.status != 404:
            raise
        paths = api.send(Call("GET", "/openapi.json"))["paths"]
        prefix = "/api/v1/projects/-/"
        plurals = {"projects"} | MANIFESTS | {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}
        if plural in plurals:
            raise
        detail = f"The platform has no kind '{kind}'."
        raise ApiError(404, {"detail": detail, "hint": f"Its kinds are {', '.join(sorted(plurals))}."}) from None


def _labels(labels: list[str] | None) -> dict[str, str]:
    pairs = {}
    for label in labels or []:
        for part in label.split(","):
            key, separator, value = part.partition("=")
            if not separator:
                raise typer.BadParameter(f"'{part}' is not KEY=VALUE.", param_hint="--label")
            pairs[key] = value
    return pairs


@guarded
def get(
    kind: Annotated[str, typer.Argument(help="The kind: task, workload, project, ...", autocompletion=complete_kinds)],
    name: Annotated[str | None, typer.Argument(help="One resource; all of the kind when left out.")] = None,
    project: Project = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE, may be repeated.")] = None,
    phase: Annotated[list[str] | None, typer.Option(help="Only this phase, may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 500,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on with every change.")] = False,
    form: Annotated[Form, typer.Option("--output", "-o", help="How it is printed.", show_default=False)] = Form.table,
    json: Json = False,
) -> None:
    """List resources, or show one.

    inferenceservice, inferencegraph, trainedmodel and servingruntime show services as KServe's manifests: `-o yaml`.
    """
    as_json = json or options.json or form is Form.json
    emit = output.emit_yaml if form is Form.yaml else output.emit_json
    as_json = as_json or form is Form.yaml
    with client(project) as api, known(api, kind) as plural:
        across = (project or options.project) == "-"
        if watch and plural in MANIFESTS:
            raise typer.BadParameter(f"{plural} cannot be watched; watch services.", param_hint="--watch")
        if watch:
            for event, resource in api.watch(plural, **_query(label, phase, limit)):
                if event not in ("put", "delete") or (name and resource["meta"]["name"] != name):
                    continue
                if as_json:
                    emit({"event": event, "resource": resource})
                else:
                    print("  ".join([event, *_row(plural, resource, across)]), flush=True)
            return
        if name:
            resource = api.get(plural, name)
            emit(resource) if as_json else _print(plural, [_flat(plural, resource)], False)
            return
        page = api.list(plural, **_query(label, phase, limit))
        if as_json:
            emit(page)
            return
        _print(plural, [_flat(plural, item) for item in page["items"]], across)
        if page.get("next"):
            output.note(f"... there are more; see them with --limit {limit * 10}")


def _flat(plural: str, resource: dict[str, Any]) -> dict[str, Any]:
    """A manifest with what the table shows of it under the names that resources have."""
    if plural == "runtimes":
        return {**resource, "formats": _formats(resource["spec"].get("formats"))}
    if plural not in MANIFESTS:
        return resource
    metadata, status = resource["metadata"], resource.get("status") or {}
    ready: dict[str, Any] = next((each for each in status.get("conditions") or [] if each["type"] == "Ready"), {})
    meta = {"name": metadata["name"], "project": metadata["namespace"], "created": metadata["creationTimestamp"]}
    formats = _formats(resource["spec"].get("supportedModelFormats"))
    told = {**status, "error": {"message": ready["message"]} if ready.get("message") else None}
    return {**resource, "meta": meta, "status": told, "ready": ready.get("status", ""), "formats": formats}


def _formats(formats: list[dict[str, Any]] | None) -> str:
    return ",".join(each["name"] for each in formats or [])


def _query(label: list[str] | None, phase: list[str] | None, limit: int) -> dict[str, Any]:
    return {"labels": _labels(label), "phases": phase or [], "limit": limit, "order": "created"}


def _row(plural: str, resource: dict[str, Any], across: bool) -> list[str]:
    meta = resource["meta"]
    row = [meta["project"]] if across else []
    row.append(meta["name"])
    row += [
        output.scalar(output.dig(resource, path)) or "-" for _, path in COLUMNS.get(plural, [("PHASE", "status.phase")])
    ]
    return [*row, output.age(meta.get("created")), output.waiting(resource.get("status") or {})]


def _print(plural: str, items: list[dict[str, Any]], across: bool) -> None:
    if not items:
        output.note(f"No {plural} here.")
        return
    headings = (["PROJECT"] if across else []) + ["NAME"]
    headings += [heading for heading, _ in COLUMNS.get(plural, [("PHASE", "")])]
    output.table([*headings, "AGE", "STATUS"], [_row(plural, item, across) for item in items])


def ours(kind: str) -> str:
    """The kind of ours that a manifest became."""
    plural = _plural(kind)
    return _OURS.get(plural, plural)


@guarded
def apply(
    files: Annotated[list[str], typer.Option("--file", "-f", help="A YAML or JSON file, a folder, or '-'.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """Create or update what the documents say."""
    import yaml

    from mlaas.kernel.body import parse_all

    documents: list[Any] = []
    for text in _texts(files):
        documents += [localise(document) for document in parse_all(text)]
    failed = False
    with client(project) as api:
        result = api.apply(yaml.safe_dump_all(documents, allow_unicode=True))
    if json or options.json:
        output.emit_json(result)
    for item in result["items"]:
        if item.get("error"):
            failed = True
            output.error(item["error"]["detail"], item["error"].get("hint"), item["error"].get("errors") or [])
        elif not (json or options.json):
            print(_applied(item))
            for warning in item.get("warnings") or []:
                output.note(f"warning: {warning['field']}: {warning['message']}")
    if failed:
        raise typer.Exit(output.FAILED)


def _applied(item: dict[str, Any]) -> str:
    """`service/iris created`; of a manifest of another system also what it became."""
    kind, name = item["resource"]["kind"], item["resource"]["meta"]["name"]
    if item.get("manifest"):
        return f"{item['manifest']['kind'].lower()}/{name} {item['action']} as {kind}/{name}"
    return f"{kind}/{name} {item['action']}"


def _texts(files: list[str]) -> list[bytes]:
    texts = []
    for name in files:
        path = Path(name)
        if name == "-":
            texts.append(sys.stdin.buffer.read())
        elif path.is_dir():
            texts += [p.read_bytes() for p in sorted(path.iterdir()) if p.suffix in (".yaml", ".yml", ".json")]
        elif path.is_file():
            texts.append(path.read_bytes())
        else:
            raise typer.BadParameter(f"there is no file {name}.", param_hint="--file")
    return texts


@guarded
def delete(
    kind: Annotated[str, typer.Argument(help="The kind.", autocompletion=complete_kinds)],
    names: Annotated[list[str], typer.Argument(help="The resources.")],
    project: Project = None,
    wait: Annotated[bool, typer.Option(help="Return once they are gone.")] = False,
) -> None:
    """Delete resources; what they run is stopped first."""
    import time

    from mlaas.client.errors import ApiError

    with client(project) as api, known(api, kind) as plural:
        for name in names:
            api.delete(plural, name)
            while wait:
                try:
                    api.get(plural, name)
                except ApiError as error:
                    if error.status != 404:
                        raise
                    break
                time.sleep(0.1)
            print(f"{plural}/{name} {'deleted' if wait else 'is being deleted'}")


@guarded
def events(
    kind: Annotated[str, typer.Argument(help="The kind.", autocompletion=complete_kinds)],
    name: Annotated[str, typer.Argument(help="The resource.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """What happened to a resource."""
    with client(project) as api, known(api, ours(kind)) as plural:
        items = api.events(name, plural)["items"]
    if json or options.json:
        output.emit_json(items)
        return
    output.table(
        ["LAST", "TYPE", "COUNT", "REASON", "MESSAGE"],
        [[output.age(e["last_seen"]), e["type"], str(e["count"]), e["reason"], e["message"]] for e in items],
    )


def register(app: typer.Typer) -> None:
    commands: tuple[Callable[..., None], ...] = (get, apply, delete, events)
    for command in commands:
        app.command(rich_help_panel="Resources")(command)
