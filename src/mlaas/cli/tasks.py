"""The main job: train, predict, index, search, run, and what one does with tasks: logs, wait, cancel; and augment."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mlaas.cli import output
from mlaas.cli.context import Json, Project, client, complete_tasks, guarded, localise, options, source
from mlaas.cli.resources import ours

Doc = dict[str, Any]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="The task as YAML or JSON.", exists=True, dir_okay=False)
]
Wait = Annotated[bool, typer.Option(help="Follow it to its end.")]
Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[KIND] NAME", help="The task, or its kind and name: service iris.", autocompletion=complete_tasks
    ),
]
Objective = Annotated[str, typer.Option(help="The objective of the model.")]
Name = Annotated[str | None, typer.Option(help="Name of the task.")]
Timeout = Annotated[float | None, typer.Option(help="Stop waiting after so many seconds (exit code 124).")]


def _read(file: Path) -> Doc:
    from mlaas.kernel.body import parse

    document = localise(parse(file.read_bytes()))
    if not isinstance(document, dict):
        raise typer.BadParameter("the file holds no mapping.", param_hint="--file")
    return document


def _submit(body: Doc, project: str | None, wait: bool, json: bool, timeout: float | None = None) -> Doc | None:
    """Post a task; with `wait` follow it and return its answer in the institute's form."""
    from mlaas.cli.follow import follow

    as_json = json or options.json
    with client(project) as api:
        name = body.pop("name", None)
        if "spec" in body:
            task = api.create("tasks", body)
        else:
            task = api.submit(body, name)
        name = task["meta"]["name"]
        if not wait:
            if as_json:
                output.emit_json(task)
            else:
                print(f"task/{name} created")
                output.note(f"Follow it: mlaas wait {name}; its log: mlaas logs -f {name}")
            return None
        follow(api, name, timeout)
        answer = api.answer(task["meta"]["uid"])
    if as_json:
        output.emit_json(answer)
        return None
    return {**answer, "name": name}


@guarded
def train(
    file: File = None,
    model: Annotated[str | None, typer.Option(help="Model folder, s3://..., hf://org/name or task:NAME.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set: file, folder, s3://..., hf://...")] = None,
    objective: Objective = "text-classification",
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="How often it sees every row.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Rows in one step.")] = 32,
    learning_rate: Annotated[float, typer.Option("--lr", "--learning-rate", metavar="X", help="Learning rate.")] = 2e-5,
    test_split: Annotated[float, typer.Option(metavar="X", help="Share of the rows kept for testing.")] = 0.1,
    save: Annotated[str | None, typer.Option(help="Where to save the model; kept by the platform if left out.")] = None,
    name: Name = None,
    project: Project = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Fine-tune a model, from a task file or from options."""
    if file is not None:
        body = _read(file)
        if "spec" not in body:
            body.setdefault("recipe", "finetune")
    elif model and dataset:
        body = {
            "recipe": "finetune",
            "model": source(model, objective=objective),
            "dataset": source(dataset, train_test_split=test_split),
            "model_train": {"epochs": epochs, "batch_size": batch_size, "optimizer": {"init_lr": learning_rate}},
        }
        if save:
            body["model_save"] = source(save)
        body = localise(body)
    else:
        raise typer.BadParameter("give --file, or --model and --dataset.")
    if name:
        body["name"] = name
    answer = _submit(body, project, wait, json)
    if answer:
        facts = ("history", "evaluation", "dataset", "output", "warnings")
        print(f"task/{answer['name']} {answer['task_status']} in {answer['stats'].get('elapsed', '')}")
        evaluation = answer.get("evaluation") or {}
        shown = {key: answer[key] for key in facts if answer.get(key) is not None and key != "evaluation"}
        shown["evaluation"] = {k: v for k, v in evaluation.items() if not isinstance(v, (dict, list))}
        output.facts(shown)
        if not save and objective == "text-classification" and file is None:
            output.note(f"Ask it: mlaas predict task:{answer['name']} 'a text'")


@guarded
def predict(
    model: Annotated[str, typer.Argument(help="Model folder, s3://..., hf://org/name or task:NAME.")],
    texts: Annotated[list[str] | None, typer.Argument(help="The texts; lines of standard input when left out.")] = None,
    objective: Objective = "text-classification",
    project: Project = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Answer texts with a model."""
    body = {
        "recipe": "predict",
        "model": localise(source(model, objective=objective)),
        "predict_input": {"input_text": _inputs(texts)},
    }
    answer = _submit(body, project, True, json, timeout)
    if answer:
        _print_predictions(body["predict_input"]["input_text"], answer["predictions"])


def _inputs(texts: list[str] | None) -> list[str]:
    lines = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not lines:
        raise typer.BadParameter("give at least one text.")
    return lines


def _print_predictions(texts: list[str], predictions: list[Any]) -> None:
    if predictions and isinstance(predictions[0], dict) and "label" in predictions[0]:
        rows = [[str(p["label"]), f"{p['score']:.3f}", text] for p, text in zip(predictions, texts, strict=True)]
        output.table(["LABEL", "SCORE", "TEXT"], rows)
        return
    for prediction in predictions:
        output.facts(prediction if isinstance(prediction, dict) else {"prediction": prediction})


@guarded
def index(
    model: Annotated[str, typer.Argument(help="The encoder.")],
    dataset: Annotated[str, typer.Argument(help="The documents.")],
    column: Annotated[str | None, typer.Option(help="The column that holds the text.")] = None,
    save: Annotated[str | None, typer.Option(help="Where to save the vector store.")] = None,
    name: Name = None,
    project: Project = None,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Build a vector store from the documents of a data set."""
    data = source(dataset)
    if column:
        data["loader_kwargs"] = {"page_content_column": column}
    body: Doc = {"recipe": "index", "model": source(model, objective="no-objective"), "dataset": data}
    if save:
        body["vector_store_save"] = source(save)
    body = localise(body)
    if name:
        body["name"] = name
    answer = _submit(body, project, wait, json)
    if answer:
        print(f"task/{answer['name']} {answer['task_status']} in {answer['stats'].get('elapsed', '')}")
        output.facts({key: answer[key] for key in ("index", "output", "warnings") if answer.get(key)})
        if not save:
            output.note(f"Search it: mlaas search task:{answer['name']} 'a text'")


@guarded
def search(
    store: Annotated[str, typer.Argument(help="The vector store: folder, s3://... or task:NAME.")],
    texts: Annotated[list[str] | None, typer.Argument(help="The texts; lines of standard input when left out.")] = None,
    model: Annotated[str, typer.Option(help="The encoder that built it; known of a task:NAME.")] = "",
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many documents for each text.")] = 4,
    project: Project = None,
    timeout: Timeout = None,
    json: Json = False,
) -> None:
    """Find the nearest documents of a vector store; a lower score is nearer."""
    if not model and not store.startswith("task:"):
        raise typer.BadParameter(
            "say which encoder built the store. What the task NAME built is task:NAME, and its encoder is known.",
            param_hint="--model",
        )
    inputs = _inputs(texts)
    encoder = source(model, objective="no-objective") if model else _encoder(store.removeprefix("task:"), project)
    body = localise(
        {
            "recipe": "search",
            "model": encoder,
            "dataset": source(store, format="vector_store"),
            "search_input": {"input_text": inputs, "k": k},
        }
    )
    answer = _submit(body, project, True, json, timeout)
    if answer:
        for text, hits in zip(inputs, answer["results"], strict=True):
            print(text)
            rows = [[f"{hit['score']:.4f}", _metadata(hit["metadata"]), hit["content"]] for hit in hits]
            output.table(["  SCORE", "METADATA", "CONTENT"], [[f"  {row[0]}", *row[1:]] for row in rows])


def _encoder(name: str, project: str | None) -> Doc:
    """The encoder with which the task `name` built its vector store."""
    with client(project) as api:
        spec = api.get("tasks", name)["spec"]
    if spec["recipe"] != "index":
        raise typer.BadParameter(f"task {name} built no vector store: its recipe is {spec['recipe']}.")
    return dict(spec["model"])


def _metadata(metadata: Doc) -> str:
    return ", ".join(f"{key}={output.scalar(value)}"[:40] for key, value in metadata.items())


@guarded
def run(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after '--'.")],
    cpu: Annotated[float | None, typer.Option(help="Cores.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, for example 2Gi.")] = None,
    retries: Annotated[int, typer.Option(min=0, metavar="N", help="How often to try again after a failure.")] = 0,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, may be repeated.")] = None,
    name: Name = None,
    project: Project = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print its log to its end.")] = False,
    json: Json = False,
) -> None:
    """Run a command as a task of its own."""
    body: Doc = {"recipe": "script", "command": command, "retries": retries}
    wanted = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value is not None}
    if wanted:
        body["resources"] = wanted
    if env:
        wrong = next((pair for pair in env if "=" not in pair), None)
        if wrong is not None:
            raise typer.BadParameter(f"'{wrong}' is not NAME=VALUE.", param_hint="--env")
        body["env"] = dict(pair.split("=", 1) for pair in env)
    with client(project) as api:
        task = api.submit(body, name)
        name = task["meta"]["name"]
        if follow:
            from mlaas.cli.follow import leaving, until_started

            with leaving(name):
                until_started(api, name)
                for chunk in api.logs(name, follow=True):
                    sys.stdout.buffer.write(chunk)
                    sys.stdout.buffer.flush()
                api.wait(name)
        elif json or options.json:
            output.emit_json(task)
        else:
            print(f"task/{name} created")
            output.note(f"Its log: mlaas logs -f {name}")


def _named(words: list[str]) -> tuple[str, str]:
    """Kind, as a plural, and name of `NAME` (a task's), `KIND NAME` or `KIND/NAME`."""
    if len(words) > 2:
        raise typer.BadParameter("one kind and one name, for example: service iris.", param_hint="NAME")
    kind, name = words if len(words) == 2 else words[0].split("/", 1) if "/" in words[0] else ("task", words[0])
    return ours(kind), name


@guarded
def logs(
    words: Words,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on to its end.")] = False,
    replica: Annotated[
        str | None,
        typer.Option(help="Of a task INDEX, ROLE or ROLE-INDEX; of a service what stands before its lines."),
    ] = None,
    project: Project = None,
) -> None:
    """A task's log, the bytes as written; or that of a service's processes, the last lines of each."""
    plural, name = _named(words)
    empty = True
    with client(project) as api:
        for chunk in api.logs(name, follow=follow, plural=plural, replica=replica):
            empty = empty and not chunk
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    if empty:
        why = " Its processes wrote nothing; a compiled model has none of its own." if plural == "services" else ""
        output.note(
            f"The log of {name} is empty.{why} What is known of it: mlaas describe {plural.removesuffix('s')} {name}"
        )


@guarded
def wait(
    words: Words,
    timeout: Timeout = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Follow a task to its end, or a service until it answers. Exit code 0 when it succeeded, 1 when not, 124 when time is up."""
    from mlaas.cli.follow import follow, until_served

    plural, name = _named(words)
    if plural not in ("tasks", "services"):
        raise typer.BadParameter("tasks and services can be waited for.", param_hint="NAME")
    with client(project) as api:
        resource = until_served(api, name, timeout) if plural == "services" else follow(api, name, timeout)
    if json or options.json:
        output.emit_json(resource)
    else:
        print(f"{resource['kind']}/{name} {resource['status']['phase']}")
    if plural == "services" and resource["status"]["phase"] != "Ready":
        output.error(output.waiting(resource["status"]), f"mlaas logs service/{name} may say more.")
        raise typer.Exit(output.FAILED)


@guarded
def cancel(
    names: Annotated[list[str], typer.Argument(help="The tasks.", autocompletion=complete_tasks)],
    project: Project = None,
) -> None:
    """Cancel tasks; their processes get TERM and time to save."""
    with client(project) as api:
        for name in names:
            api.cancel(name)
            print(f"task/{name} is being cancelled")


@guarded
def augment(
    file: Annotated[Path, typer.Argument(help="CSV, TSV or JSON lines.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    factor: Annotated[float | None, typer.Option(help="About so many times as many rows.")] = None,
    size: Annotated[int | None, typer.Option(help="About so many rows.")] = None,
    text_column: Annotated[str, typer.Option(metavar="NAME", help="The column to vary.")] = "text",
    label_column: Annotated[str, typer.Option(metavar="NAME", help="The column to keep.")] = "label",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Another seed, other typos.")] = 0,
    json: Json = False,
) -> None:
    """Enlarge a data set with smart typos, the same ones for the same seed."""
    from mlaas.runtimes.augment.tables import augment_file

    enlarged = augment_file(
        file, out, text_column=text_column, label_column=label_column, factor=factor, size=size, seed=seed
    )
    if json or options.json:
        output.emit_json({"rows": enlarged.rows, "copies": enlarged.copies, "file": str(out)})
    else:
        print(f"{enlarged.rows} rows in {out}, {enlarged.copies} of them new")


def register(app: typer.Typer) -> None:
    work: tuple[Callable[..., None], ...] = (train, predict, index, search, augment)
    for command in work:
        app.command(rich_help_panel="Work")(command)
    app.command(rich_help_panel="Work", context_settings={"allow_interspersed_args": False})(run)
    about: tuple[Callable[..., None], ...] = (logs, wait, cancel)
    for command in about:
        app.command(rich_help_panel="Tasks")(command)
