"""What the command prints, and its exit codes, over a real platform: the words a person meets on the first day."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.platform import Platform

from mlaas.client.calls import ENDED

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("cli")) as running:
        yield running


def _arguments(platform: Platform, *words: str) -> list[str]:
    return [sys.executable, "-m", "mlaas", "--url", platform.url, "--data", str(platform.data), *words]


@pytest.fixture(scope="module")
def mlaas(platform: Platform) -> Command:
    def command(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            _arguments(platform, *words),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=platform.files,
            env={**platform.environment, "COLUMNS": "80"},
            check=False,
        )

    return command


def test_a_kind_that_is_not_there(mlaas: Command) -> None:
    got = mlaas("get", "foo")
    assert got.returncode == 3
    assert "no kind 'foo'" in got.stderr
    named = got.stderr.partition("Its kinds are ")[2].rstrip(".\n").split(", ")
    assert {"projects", "services", "tasks", "workloads"} <= set(named)
    assert named == sorted(named)


def test_the_help_of_train_fits_a_terminal(mlaas: Command) -> None:
    got = mlaas("train", "--help")
    assert "--lr,--learning-rate" in got.stdout
    assert "…" not in got.stdout
    assert max(map(len, got.stdout.splitlines())) <= 80


def test_doctor_says_how_tasks_start_and_what_a_viewer_may_not_see(mlaas: Command, platform: Platform) -> None:
    got = mlaas("doctor")
    assert "task start: in " in got.stdout
    for jargon in ("fork server", "mlaas.runtimes", "leads"):
        assert jargon not in got.stdout
    token = mlaas("token", "create", "looks", "--role", "viewer").stdout.strip()
    command = [sys.executable, "-m", "mlaas", "--url", platform.url, "doctor"]
    environment = {**platform.environment, "MLAAS_TOKEN": token}
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert seen.returncode == 0
    assert "for administrators" in seen.stdout
    assert "data folder" not in seen.stdout


def test_a_described_task_is_words_not_json(mlaas: Command) -> None:
    assert mlaas("run", "--name", "told", "--follow", "--", "true").returncode == 0
    got = mlaas("describe", "task", "told")
    assert "exit: attempt 1, code 0, reason Completed" in got.stdout
    assert '{"' not in got.stdout
    assert not [line for line in got.stdout.splitlines() if line.endswith("Completed:")]


def test_the_next_step_comes_after_the_result(platform: Platform) -> None:
    command = _arguments(platform, "run", "--name", "ordered", "--", "true")
    both = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env=platform.environment,
        check=True,
    )
    assert both.stdout == "task/ordered created\nIts log: mlaas logs -f ordered\n"


def test_a_table_ends_where_its_text_ends(mlaas: Command) -> None:
    assert mlaas("run", "--name", "table", "--follow", "--", "true").returncode == 0
    got = mlaas("get", "task", "table")
    assert got.stdout.splitlines()[0] == "NAME   PHASE      RECIPE  AGE  STATUS"
    assert all(line == line.rstrip() for line in got.stdout.splitlines())


def test_an_empty_log_is_said(mlaas: Command) -> None:
    assert mlaas("run", "--name", "silent", "--follow", "--", "true").returncode == 0
    got = mlaas("logs", "silent")
    assert (got.returncode, got.stdout) == (0, "")
    assert "The log of silent is empty" in got.stderr


def test_a_failure_names_the_log_to_read(mlaas: Command) -> None:
    got = mlaas("run", "--name", "three", "--follow", "--", "sh", "-c", "echo oops; exit 3")
    assert (got.returncode, got.stdout) == (1, "oops\n")
    assert "mlaas logs three" in got.stderr


def test_a_program_that_is_not_there(mlaas: Command) -> None:
    got = mlaas("run", "--name", "nowhere", "--follow", "--", "no-such-program")
    assert got.returncode == 1
    assert "error: Task nowhere: The command 'no-such-program' was not found." in got.stderr


def test_run_refuses_a_variable_without_value(mlaas: Command) -> None:
    got = mlaas("run", "--env", "NAME", "--", "true")
    assert got.returncode == 2
    assert "'NAME' is not NAME=VALUE" in got.stderr


def test_apply_says_every_fault_once(mlaas: Command, platform: Platform) -> None:
    (platform.files / "typo.yaml").write_text(
        "kind: task\nmeta: {name: typo}\nspec: {recipe: script, comand: ['true']}\n"
    )
    got = mlaas("apply", "-f", "typo.yaml")
    assert got.returncode == 1
    assert got.stderr.count("spec.command: is missing") == 1
    assert "did you mean 'command'?" in got.stderr


def test_augment_says_what_it_wrote(mlaas: Command, platform: Platform) -> None:
    rows = [f"INFN Sezione di {place},{place}" for place in ("Bari", "Pisa", "Torino", "Padova")]
    (platform.files / "small.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    got = mlaas("augment", "small.csv", "large.csv", "--size", "8")
    assert got.stdout == "8 rows in large.csv, 4 of them new\n", got.stderr


def test_search_asks_for_an_encoder_only_where_none_is_known(mlaas: Command) -> None:
    assert mlaas("run", "--name", "no-index", "--follow", "--", "true").returncode == 0
    got = mlaas("search", "task:no-index", "muons")
    assert got.returncode == 2
    assert "no vector store" in got.stderr
    assert "--model" in mlaas("search", "folder", "muons").stderr


def test_ctrl_c_leaves_the_task_and_says_so(mlaas: Command, platform: Platform, tmp_path: Path) -> None:
    words = ("run", "--name", "long", "--cpu", "0.1", "--memory", "64Mi", "--follow", "--", "sh", "-c")
    said = tmp_path / "stderr"
    with (
        said.open("wb") as stderr,
        subprocess.Popen(
            _arguments(platform, *words, "echo begun; exec sleep 600"),
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=platform.environment,
            cwd=platform.files,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert "long goes on. Follow it: mlaas wait long; stop it: mlaas cancel long" in said.read_text()
    with platform.client() as client:
        assert client.get("tasks", "long")["status"]["phase"] == "Running"
        assert mlaas("cancel", "long").returncode == 0
        deadline = time.monotonic() + 30
        while client.get("tasks", "long")["status"]["phase"] not in ENDED:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_shell_completes_kinds_and_tasks(mlaas: Command, platform: Platform) -> None:
    assert mlaas("run", "--name", "completed", "--follow", "--", "true").returncode == 0
    assert _completed(platform, "mlaas get w") == ["workloads"]
    assert _completed(platform, "mlaas logs compl") == ["completed"]
    assert _completed(platform, "mlaas logs compl", MLAAS_URL="http://127.0.0.1:9") == []


def _completed(platform: Platform, line: str, **environment: str) -> list[str]:
    """What bash is offered for the last word of `line`."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_MLAAS_COMPLETE": "complete_bash"}
    place = {"MLAAS_URL": platform.url, "MLAAS_DATA": str(platform.data), "MLAAS_TOKEN": platform.token}
    got = subprocess.run(
        [str(Path(sys.executable).parent / "mlaas")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**platform.environment, **place, **asked, **environment},
        check=False,
    )
    assert got.stderr == ""
    return got.stdout.split()
