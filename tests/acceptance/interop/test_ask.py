"""`mlaas service ask`: rows or texts on the command line, or the body of a file."""

import json

import pytest
from tests.acceptance.interop.conftest import ROWS, kubectl_like
from tests.platform import Platform

from mlaas.client import Client

TENSOR = {"name": "input-0", "shape": [2, 4], "datatype": "FP64", "data": ROWS}


@pytest.fixture(scope="module")
def asked(platform: Platform) -> str:
    spec = {"predictor": {"model": str(platform.files / "sklearn")}}
    with platform.client() as client:
        client.create("services", {"kind": "service", "meta": {"name": "asked"}, "spec": spec})
    assert kubectl_like(platform, "wait", "service/asked").returncode == 0
    return "asked"


def test_rows_are_answered_a_line_each(platform: Platform, asked: str) -> None:
    said = kubectl_like(platform, "service", "ask", asked, *map(json.dumps, ROWS))
    assert (said.returncode, said.stdout) == (0, "0\n2\n"), said.stderr
    whole = kubectl_like(platform, "service", "ask", asked, json.dumps(ROWS[0]), "--json")
    assert json.loads(whole.stdout) == {"predictions": [0]}


@pytest.mark.parametrize("body", [{"instances": ROWS}, {"inputs": ROWS}, ROWS], ids=["instances", "inputs", "rows"])
def test_a_body_is_read_from_standard_input(platform: Platform, asked: str, body: object) -> None:
    said = kubectl_like(platform, "service", "ask", asked, "-f", "-", text=json.dumps(body))
    assert (said.returncode, said.stdout) == (0, "0\n2\n"), said.stderr


def test_tensors_are_answered_with_tensors(platform: Platform, asked: str) -> None:
    said = kubectl_like(platform, "service", "ask", asked, "-f", "-", text=json.dumps({"inputs": [TENSOR]}))
    assert json.loads(said.stdout)["outputs"][0]["data"] == [0, 2]


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ((), "", "give what it is asked"),
        (("-f", "-"), "{", "is not JSON"),
        (("-f", "-"), "{}", "neither instances nor inputs"),
        (("-f", "/nowhere.json"), "", "cannot be read"),
    ],
    ids=["nothing", "no-json", "no-rows", "no-file"],
)
def test_what_cannot_be_asked_is_said(platform: Platform, words: tuple[str, ...], text: str, said: str) -> None:
    got = kubectl_like(platform, "service", "ask", "asked", *words, text=text)
    assert got.returncode == 2
    assert said in got.stderr


def test_what_the_model_refuses_is_passed_on(platform: Platform, client: Client, asked: str) -> None:
    wrong = kubectl_like(platform, "service", "ask", asked, "[1, 2]")
    assert wrong.returncode == 1
    assert "4" in wrong.stderr
    assert wrong.stderr.startswith("error: ")
    assert "Traceback" not in wrong.stderr
