import json

import pytest

from mlaas.kernel.body import MAX_BYTES, parse, parse_all
from mlaas.kernel.errors import Malformed, TooLarge


def test_yaml_is_read_by_the_core_schema_of_1_2():
    body = b"lr: 2e-5\ncountry: NO\nyes: on\nport: 0x1f\ndate: 2023-09-13\nnothing: ~\ntrue_: true\nquoted: '12'\n"
    assert parse(body) == {
        "lr": 2e-5,
        "country": "NO",
        "yes": "on",
        "port": 31,
        "date": "2023-09-13",
        "nothing": None,
        "true_": True,
        "quoted": "12",
    }


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "application/yaml", ""]
)
def test_json_is_read_under_every_content_type(content_type):
    assert parse(json.dumps({"a": [1, 2.5, None, "x"]}).encode(), content_type) == {"a": [1, 2.5, None, "x"]}


def test_several_yaml_documents():
    assert parse_all(b"a: 1\n---\nb: [1, {c: 2}]\n") == [{"a": 1}, {"b": [1, {"c": 2}]}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"a: [1",
        b'{"a": 1, "b": {"c": 1, "c": 2}}',
        b'{"a": "\\u0000"}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'a: "\\0"',
        b"a: .inf",
        b"a: .NaN",
        b"a: 1e999",
        b"a: 99999999999999999999",
        b"a: " + b"9" * 5000,
        b"a: 1\na: 2",
        b"!!python/object/apply:os.system ['true']",
        b"a: &x [1]\nb: *x",
        b"\xff\xfe{",
        b"[" * 1000 + b"]" * 1000,
        b"a: " + b"[" * 1000 + b"]" * 1000,
    ],
)
def test_what_cannot_be_read_is_malformed(body):
    with pytest.raises(Malformed):
        parse(body)


def test_the_line_of_the_fault_is_named():
    with pytest.raises(Malformed, match="line 2"):
        parse(b"a: 1\nb: ]\n", "application/yaml")


def test_an_alias_of_a_value_is_expanded():
    assert parse(b"a: &x s3\nb: *x\n") == {"a": "s3", "b": "s3"}


def test_a_large_body_is_refused():
    with pytest.raises(TooLarge):
        parse(b"[" + b" " * MAX_BYTES + b"]")


@pytest.mark.parametrize("text", ["a:\n\tb: 1", "a:\n  b:\n  \tc: 1\n \td", "\ta: 1", "x: [\n\t", "a: {\n"])
def test_broken_yaml_is_malformed_and_a_tab_is_told(text):
    with pytest.raises(Malformed) as caught:
        parse(text.encode(), "application/yaml")
    if text.startswith("a:\n\t"):
        assert "spaces" in caught.value.hint
