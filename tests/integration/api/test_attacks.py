"""Hostile and broken requests: each gets a clear 4xx, none a 500, none much memory."""

import asyncio
import gzip
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
        (json.dumps({"spec": {}}).encode("utf-16"), "application/json", 400),
        (b"{}", "application/xml", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
    ],
)
async def test_bodies_that_cannot_be_read(client, content, content_type, status):
    response = await client.post(NOTES, content=content, headers={"Content-Type": content_type})
    assert response.status_code == status, response.text
    assert response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "detail", "advice"),
    [
        (b'{"spec": {"stars": NaN}}', "JSON", "finite"),
        (b'{"spec": {"stars": -Infinity}}', "JSON", "finite"),
        (b'{"spec": {"stars": 1e400}}', "JSON", "finite"),
        (b'{"spec": {"text": "\xff"}}', "JSON", "UTF-8"),
        (b'{"spec": {"text": "\\ud800"}}', "JSON", "pair"),
        (b'{"spec": {"text": "x"}', "JSON", "brackets"),
        (json.dumps({"spec": {}}).encode("utf-16"), "UTF-16", "UTF-8"),
    ],
)
async def test_what_to_do_about_a_body_is_said(client, content, detail, advice):
    problem = (await client.post(NOTES, content=content, headers=JSON)).json()
    assert detail in problem["detail"]
    assert advice in problem["hint"]


async def test_a_mark_before_utf_8_is_no_matter(client):
    for kind, body in (("json", '{"meta": {"name": "a"}}'), ("yaml", "meta: {name: b}")):
        content = body.encode("utf-8-sig")
        made = await client.post(NOTES, content=content, headers={"Content-Type": f"application/{kind}"})
        assert made.status_code == 201, made.text


async def test_a_compressed_body_is_refused_as_such(client):
    headers = {**JSON, "Content-Encoding": "gzip"}
    refused = await client.post(NOTES, content=gzip.compress(b'{"spec": {}}'), headers=headers)
    assert (refused.status_code, refused.json()["hint"]) == (415, "Send it uncompressed.")
    assert (await client.post(NOTES, json={}, headers={"Content-Encoding": "identity"})).status_code == 201


@pytest.mark.parametrize(
    ("meta", "field", "words"),
    [
        ({"name": "Ähre"}, "meta.name", "lower-case letters"),
        ({"name": ""}, "meta.name", "lower-case letters"),
        ({"name": "a" * 51}, "meta.name", "at most 50 characters"),
        ({"name": 5}, "meta.name", "must be a text"),
        ({"labels": {"a,b": "x"}}, "meta.labels", "the key 'a,b' must have no comma"),
        ({"labels": {"": "x"}}, "meta.labels", "must not be empty"),
        ({"labels": {"a": "b\nc"}}, "meta.labels.a", "no control character"),
        ({"labels": {"a": 1}}, "meta.labels.a", "must be a text"),
        ({"labels": []}, "meta.labels", "must be an object"),
        ({"labels": {f"k{i}": "v" for i in range(65)}}, "meta.labels", "at most 64 entries"),
        ({"version": "1"}, "meta.version", "must be a whole number"),
    ],
)
async def test_refusals_are_words_not_patterns(client, meta, field, words):
    problem = (await client.post(NOTES, json={"meta": meta})).json()
    assert problem["errors"][0]["field"] == field
    assert words in problem["errors"][0]["message"]
    assert "[a-z" not in problem["detail"]
    assert "Input should" not in problem["detail"]


async def test_in_a_project_that_is_not_there_nothing_is_looked_for(client):
    for method, path in (("GET", "defalt/notes/a"), ("DELETE", "defalt/notes/a"), ("GET", "defalt/notes/a/events")):
        missing = await client.request(method, f"/api/v1/projects/{path}")
        assert (missing.status_code, missing.json()["hint"]) == (404, "Did you mean 'default'?")


async def test_head_is_get_without_the_body(client):
    await client.post(NOTES, json={"meta": {"name": "a"}})
    for path in (NOTES, f"{NOTES}/a", "/livez", f"{NOTES}/nothing", "/nowhere"):
        got, head = await client.get(path), await client.head(path)
        assert head.status_code == got.status_code
        assert head.content == b""
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == got.headers.get(name)


async def test_head_of_a_stream_ends(client):
    async with asyncio.timeout(5):
        head = await client.head(f"{NOTES}?watch=1")
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


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
