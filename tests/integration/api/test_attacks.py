"""Hostile and broken requests: each gets a clear 4xx, none a 500, none much memory."""

import json
import tracemalloc

import pytest

NOTES = "/api/v1/projects/default/notes"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"spec": {"text": "\xff"}}', "application/json", 400),
        (b'{"spec": {"stars": NaN}}', "application/json", 400),
        (b'{"spec": {"stars": Infinity}}', "application/json", 400),
        (b'{"spec": {"stars": 1e400}}', "application/json", 400),
        (b'{"spec": {"text": "\\u0000"}}', "application/json", 400),
        (b'{"spec": {"text": "\\ud800"}}', "application/json", 400),
        (b'{"spec": {}, "spec": {}}', "application/json", 400),
        (b'{"spec": {"stars": ' + b"9" * 4000 + b"}}", "application/json", 400),
        (b"[" * 1000 + b"]" * 1000, "application/json", 400),
        (b'{"spec":' * 1000 + b"1" + b"}" * 1000, "application/json", 400),
        (b"[" * 1000 + b"]" * 1000, "application/yaml", 400),
        (b"- " * 100_000, "application/yaml", 400),
        (b"a: &a [x]\nb: *a", "application/yaml", 400),
        (b"spec: {stars: .inf}", "application/yaml", 400),
        (b"spec: {}\nspec: {}", "application/yaml", 400),
        (b"spec: !!python/name:os.system {}", "application/yaml", 400),
        (b"a: 1\n---\nb: 2", "application/yaml", 400),
        (b"{}", "application/xml", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_bodies_that_cannot_be_read(client, content, content_type, status):
    response = await client.post(NOTES, content=content, headers={"Content-Type": content_type})
    assert response.status_code == status, response.text
    assert response.json()["detail"]


async def test_a_declared_100_mb_body_is_refused_unread(client):
    async def never():
        raise AssertionError("the body was read")
        yield b""

    response = await client.post(NOTES, content=never(), headers={**JSON, "Content-Length": str(100 << 20)})
    assert (response.status_code, response.json()["code"]) == (413, "too-large")


async def test_a_streamed_100_mb_body_costs_no_memory(client):
    chunk = b" " * (1 << 16)
    sent = 0

    async def body():
        nonlocal sent
        while sent < 100 << 20:
            sent += len(chunk)
            yield chunk

    tracemalloc.start()
    response = await client.post(NOTES, content=body(), headers=JSON)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status_code == 413
    assert peak < 32 << 20
    assert sent < 10 << 20


@pytest.mark.parametrize("alias", ["&a", "&a0"])
async def test_an_alias_bomb_is_refused(client, alias):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    text = "\n".join(lines).replace("&a0", alias)
    response = await client.post(NOTES, content=text, headers={"Content-Type": "application/yaml"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    "name",
    [
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "a%00b",
        "%ff%fe",
        "a%0d%0aSet-Cookie:x=1",
        "%F0%9F%98%80",
        "A" * 5000,
        "-",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
async def test_names_that_cannot_be(client, name, method):
    response = await client.request(method, f"{NOTES}/{name}", content=b"{}", headers=JSON)
    assert response.status_code in (404, 405)
    assert "set-cookie" not in response.headers


async def test_huge_numbers_in_queries(client):
    for query in (
        "limit=99999999999999999999",
        "limit=-1",
        "limit=1e3",
        "after=" + "A" * 900,
        "watch=maybe",
        "since=-1",
    ):
        response = await client.get(f"{NOTES}?{query}")
        assert response.status_code == 422, query


async def test_strange_headers(client):
    await client.post(NOTES, json={"meta": {"name": "a"}})
    for header in ('"99999999999999999999"', '"a"', "W/", "1, 2", '"' + "1" * 190 + '"'):
        response = await client.put(f"{NOTES}/a", json={"spec": {}}, headers={"If-Match": header})
        assert response.status_code in (400, 412), header


async def test_texts_of_any_script_survive(client):
    text = "Istituto Nazionale di Fisica Nucleare, Università è ß 中文 🔬 \u202e\u0085\u2028 $t\\bar{t}H$"
    body = {"meta": {"name": "u", "title": text, "labels": {"où": "là"}}, "spec": {"text": text}}
    assert (await client.post(NOTES, content=json.dumps(body), headers=JSON)).status_code == 201
    made = (await client.get(f"{NOTES}/u")).json()
    assert made["spec"]["text"] == text
    assert made["meta"]["title"] == text
    assert len((await client.get(NOTES, params={"labels": "où=là"})).json()["items"]) == 1


async def test_an_unexpected_failure_shows_no_trace(api, client, monkeypatch, caplog):
    async def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(type(api.context.database), "list", broken)
    response = await client.get(NOTES)
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "secret detail" not in response.text
    assert "Traceback" not in response.text
    reference = response.json()["hint"].split("reference=")[1].rstrip(".")
    assert reference in caplog.text
