"""`mlaas describe`: all that is known of one resource, for people."""

from typing import Annotated, Any

import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, complete_kinds, guarded, options
from mlaas.cli.resources import known, ours

Document = dict[str, Any]


@guarded
def describe(
    kind: Annotated[str, typer.Argument(help="The kind.", autocompletion=complete_kinds)],
    name: Annotated[str, typer.Argument(help="The resource.")],
    project: Project = None,
    json: Json = False,
) -> None:
    """All that is known of one resource, its events included."""
    with client(project) as api, known(api, ours(kind)) as plural:
        resource = api.get(plural, name)
        events = api.events(name, plural)["items"]
    if json or options.json:
        output.emit_json({**resource, "events": events})
        return
    meta, status = resource["meta"], dict(resource.get("status") or {})
    print(f"{resource['kind']} {meta['name']}  {status.get('phase', '')}")
    why = output.waiting(status)
    if why:
        print(f"  {why}")
        if plural == "services" and status.get("phase") in ("Failed", "Degraded"):
            print(f"  What its processes wrote: mlaas logs service/{name}")
    output.facts({"title": meta.get("title"), "project": meta["project"], "uid": meta["uid"], "labels": meta["labels"]})
    output.facts({"created": f"{meta['created']} ({output.age(meta['created'])} ago)", "deleted": meta.get("deleted")})
    conditions = status.pop("conditions", [])
    classes = _classes(status)
    revisions = _revisions(status) if plural == "services" else []
    output.facts({"spec": _brief(resource["spec"], meta["name"]), "status": status})
    if classes:
        _print_classes(classes)
    if revisions:
        print("\nrevisions:")
        output.table(["REVISION", "VERSION", "TRAFFIC", "PHASE", "SERVED", "CREATED", "MODEL"], revisions)
    _print_conditions(conditions)
    _print_events(events)


def _brief(spec: Document, name: str) -> Document:
    """The spec, with how to see the manifest that it was written as instead of that."""
    manifest = spec.get("manifest")
    if not manifest:
        return spec
    return {**spec, "manifest": f"{manifest['kind']}: mlaas get {manifest['kind'].lower()} {name} -o yaml"}


def _classes(status: Document) -> Document:
    """Take what is a table out of the status: the measures per class are returned, a matrix is left to --json."""
    evaluation = dict(status.get("evaluation") or {})
    classes = evaluation.pop("per_class", None) or {}
    matrix = output.dig(evaluation, "confusion_matrix.labels")
    if matrix:
        evaluation["confusion_matrix"] = f"{len(matrix)} x {len(matrix)}, see --json"
    if evaluation:
        status["evaluation"] = evaluation
    return dict(classes)


def _revisions(status: Document) -> list[list[str]]:
    """Take the revisions out of a service's status: a row for each, the latest first, with its share of the traffic and how it
    is served. What only the platform works with goes too."""
    for internal in ("serving", "stable", "resolved", "observed_generation", "timestamps"):
        status.pop(internal, None)
    versions = status.pop("versions", None) or {}
    records = {each["revision"]: each for each in status.pop("revisions", None) or []}
    units = {each["revision"]: each for each in status.pop("units", None) or []}
    traffic = {each["revision"]: each["percent"] for each in status.pop("traffic", None) or []}
    names = sorted({*records, *units, *traffic}, key=lambda revision: int(versions.get(revision, 0)), reverse=True)
    rows = []
    for revision in names:
        unit, record = units.get(revision, {}), records.get(revision, {})
        rows.append(
            [
                revision,
                output.scalar(versions.get(revision)) or "-",
                f"{traffic.get(revision, 0)}%",
                unit.get("phase", "-"),
                _served(unit),
                output.age(record.get("created")) or "-",
                str(output.dig(record, "predictor.model") or output.dig(record, "predictor.remote.url") or "-"),
            ]
        )
    return rows


def _served(unit: Document) -> str:
    """How a unit is served: `sklearn, compiled`; `custom, 2 workers`."""
    if unit.get("compiled"):
        how = "compiled"
    else:
        workers = unit.get("replicas")
        how = f"{workers} worker{'s' * (workers != 1)}" if workers else ""
    restarts = unit.get("restarts", 0)
    again = f"{restarts} restart{'s' * (restarts != 1)}" if restarts else ""
    aside = "set aside" if unit.get("set_aside") else ""
    return ", ".join(part for part in (unit.get("format", ""), how, again, aside) if part) or "-"


def _print_classes(classes: Document) -> None:
    print("\nclasses:")
    measures = ("precision", "recall", "f1", "support")
    output.table(
        ["CLASS", *(measure.upper() for measure in measures)],
        [[label, *(output.scalar(row.get(measure)) for measure in measures)] for label, row in classes.items()],
    )


def _print_conditions(conditions: list[Document]) -> None:
    if not conditions:
        return
    print("\nconditions:")
    output.table(
        ["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"],
        [
            [each["type"], each["status"], each["reason"], output.age(each["last_transition_time"]), each["message"]]
            for each in conditions
        ],
        whole=True,
    )


def _print_events(events: list[Document]) -> None:
    if not events:
        return
    print("\nevents:")
    output.table(
        ["LAST", "COUNT", "REASON", "MESSAGE"],
        [[output.age(each["last_seen"]), str(each["count"]), each["reason"], each["message"]] for each in events],
        whole=True,
    )


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Resources")(describe)
