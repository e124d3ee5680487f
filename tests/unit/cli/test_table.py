"""Tables on a terminal of 80 columns and in a pipe."""

import contextlib
import io

import pytest

from mlaas.cli import output

HEADINGS = ["NAME", "PHASE", "STATUS"]
LONG = "position 1: needs 2 cpu, 21.2 GiB; free 0 cpu, 0 B; held by 'a1'; starts when 'a1' ends"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def test_only_the_last_column_gives_way(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        output.table(HEADINGS, [["predict-fnvd6", "Succeeded", ""], ["strings", "Queued", LONG]])
    head, short, long = terminal.getvalue().splitlines()
    assert head == "NAME           PHASE      STATUS"
    assert short == "predict-fnvd6  Succeeded"
    assert long.startswith("strings        Queued     position 1: needs")
    assert long.endswith("…")
    assert len(long) <= 80


def test_a_whole_column_goes_on_below_itself(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        output.table(HEADINGS, [["strings", "Queued", LONG]], whole=True)
    _, *lines = terminal.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line[17:].strip() for line in lines) == LONG
    assert lines[1].startswith(" " * 17)


def test_a_word_longer_than_the_column_is_broken(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        output.table(HEADINGS, [["strings", "Queued", "x" * 200]], whole=True)
    _, *lines = terminal.getvalue().splitlines()
    assert sum(line.count("x") for line in lines) == 200
    assert all(len(line) <= 80 for line in lines)


def test_a_narrow_terminal_keeps_names_whole(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    with contextlib.redirect_stdout(terminal):
        output.table(HEADINGS, [["predict-fnvd6", "Succeeded", LONG]])
    assert terminal.getvalue().splitlines()[1] == "predict-fnvd6  Succeeded  position 1:…"


def test_wide_characters_count_twice(terminal: Terminal) -> None:
    with contextlib.redirect_stdout(terminal):
        output.table(["A", "B"], [["日本", "x"], ["ab", "y"]])
    assert terminal.getvalue().splitlines() == ["A     B", "日本  x", "ab    y"]


def test_a_pipe_gets_every_row_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(HEADINGS, [["strings", "Queued", LONG]])
    assert capsys.readouterr().out.splitlines() == ["NAME     PHASE   STATUS", f"strings  Queued  {LONG}"]


def test_an_ended_task_shows_how_good_it_is_and_no_time_left() -> None:
    progress = {"percentage": 100, "remaining_seconds": 0}
    assert (
        output.waiting({"phase": "Succeeded", "progress": progress, "evaluation": {"accuracy": 0.89}})
        == "accuracy 0.89"
    )
    assert output.waiting({"phase": "Succeeded", "progress": progress}) == ""
    assert output.waiting({"phase": "Running", "progress": progress}) == "100%, 0s left"
