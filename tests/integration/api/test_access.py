import hashlib

import pytest

NOTES = "/api/v1/projects/default/notes"


@pytest.mark.parametrize("header", [None, "Basic YTpi", "Bearer", "Bearer mlaas_wrong", "Bearer é"])
async def test_without_a_valid_token_there_is_nothing(api, header):
    async with api.client() as client:
        del client.headers["Authorization"]
        headers = {"Authorization": header.encode()} if header else {}
        for path in (NOTES, "/metrics", "/api/v1/tokens", "/api/v1/projects", "/api/v1/doctor"):
            response = await client.get(path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.json()["hint"]


async def test_health_and_the_document_are_open(api):
    async with api.client() as client:
        del client.headers["Authorization"]
        for path in ("/livez", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


async def test_a_viewer_reads_only(api):
    async with api.client(await api.token("v", "viewer")) as client:
        assert (await client.get(NOTES)).status_code == 200
        refused = await client.post(NOTES, json={"spec": {}})
        assert refused.status_code == 403
        assert "editor" in refused.json()["hint"]


async def test_only_administrators_see_what_the_platform_finds_in_itself(api, client):
    assert (await client.get("/api/v1/doctor")).status_code == 200
    for role, projects in (("viewer", ()), ("editor", ()), ("admin", ("physics",))):
        async with api.client(await api.token(f"d-{role}", role, *projects)) as theirs:
            refused = await theirs.get("/api/v1/doctor")
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
            assert refused.headers["content-type"] == "application/problem+json"
            assert ("not limited to projects" if projects else "role admin") in refused.json()["hint"]


async def test_what_tells_of_all_projects_is_for_tokens_of_all(api, client):
    async with api.client(await api.token("all", "viewer")) as theirs:
        assert (await theirs.get("/metrics")).status_code == 200
    async with api.client(await api.token("some", "admin", "physics")) as theirs:
        refused = await theirs.get("/metrics")
        assert (refused.status_code, refused.json()["hint"]) == (
            403,
            "This needs a token that is not limited to projects.",
        )


async def test_a_token_for_a_project_that_is_not_there_is_refused(client):
    asked = {"name": "typo", "projects": ["default", "phisics"]}
    refused = await client.post("/api/v1/tokens", json=asked)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "projects.1")
    assert refused.json()["hint"] == "Did you mean 'physics'?"


async def test_answers_end_their_line(client):
    for path in (NOTES, f"{NOTES}/nothing", "/nowhere", "/livez", "/api/v1/doctor", f"{NOTES}?limit=x"):
        text = (await client.get(path)).text
        assert text.endswith("}\n")
        assert text.count("\n") == 1
    assert (await client.put(NOTES)).text.endswith("}\n")


async def test_a_token_of_one_project_sees_that_one(api, client):
    await client.post(NOTES, json={"meta": {"name": "a"}})
    await client.post("/api/v1/projects/physics/notes", json={"meta": {"name": "b"}})
    async with api.client(await api.token("p", "editor", "physics")) as theirs:
        assert (await theirs.get(NOTES)).status_code == 403
        assert (await theirs.get(f"{NOTES}/a")).status_code == 403
        items = (await theirs.get("/api/v1/projects/-/notes")).json()["items"]
        assert [item["meta"]["name"] for item in items] == ["b"]
        projects = (await theirs.get("/api/v1/projects")).json()["items"]
        assert [item["meta"]["name"] for item in projects] == ["physics"]
        assert (await theirs.post("/api/v1/tokens", json={"name": "x"})).status_code == 403
        body = {"kind": "note", "meta": {"name": "c", "project": "default"}, "spec": {}}
        applied = (await theirs.post("/api/v1/apply", json=body)).json()
        assert applied["items"][0]["error"]["code"] == "forbidden"


async def test_tokens_are_made_shown_once_listed_and_voided(api, client):
    made = await client.post("/api/v1/tokens", json={"name": "ci", "role": "viewer", "expires_in": 60})
    assert made.status_code == 201
    secret = made.json()["token"]
    assert secret.startswith("mlaas_")
    assert secret not in (await client.get("/api/v1/tokens")).text
    assert (await client.post("/api/v1/tokens", json={"name": "ci"})).status_code == 409
    async with api.client(secret) as theirs:
        assert (await theirs.get(NOTES)).status_code == 200
        assert (await client.delete("/api/v1/tokens/ci")).status_code == 204
        assert (await theirs.get(NOTES)).status_code == 401
    assert (await client.delete("/api/v1/tokens/ci")).status_code == 404
    assert (await client.delete("/api/v1/tokens/admin")).status_code == 409
    wrong = await client.post("/api/v1/tokens", json={"name": "x", "role": "root"})
    assert wrong.status_code == 422


async def test_a_blob_is_read_only_through_a_resource(api, client):
    data = b"weights" * 1000
    digest = hashlib.sha256(data).hexdigest()
    path = f"/api/v1/projects/default/blobs/{digest}"
    assert (await client.put(path, content=data)).status_code == 201
    assert (await client.get(path)).status_code == 404
    made = (await client.post(NOTES, json={"meta": {"name": "a"}})).json()
    database = api.context.database
    stored = await database.get("note", "default", "a")
    stored.status["output"] = {"uri": f"blobs:{digest}", "hash": digest}
    await database.update(stored)
    whole = await client.get(path)
    assert whole.content == data
    part = await client.get(path, headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, data[3:10])
    assert part.headers["content-range"] == f"bytes 3-9/{len(data)}"
    tail = await client.get(path, headers={"Range": "bytes=-4"})
    assert tail.content == data[-4:]
    assert (await client.get(path, headers={"Range": f"bytes={len(data)}-"})).status_code == 416
    assert (await client.head(path)).headers["content-length"] == str(len(data))
    assert (await client.get(path.replace("default", "physics"))).status_code == 404
    async with api.client(await api.token("p", "editor", "physics")) as theirs:
        assert (await theirs.get(path)).status_code == 403
    assert made["meta"]["name"] == "a"


async def test_a_blob_comes_in_pieces(client):
    data = bytes(range(256)) * 40
    digest = hashlib.sha256(data).hexdigest()
    path = f"/api/v1/projects/default/blobs/{digest}"
    first = await client.put(path, content=data[:4000], headers={"Content-Range": f"bytes 0-3999/{len(data)}"})
    assert (first.status_code, first.headers["upload-offset"]) == (202, "4000")
    assert (await client.head(path)).headers["upload-offset"] == "4000"
    wrong = await client.put(path, content=data[:10], headers={"Content-Range": f"bytes 0-9/{len(data)}"})
    assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, "4000")
    rest = await client.put(
        path, content=data[4000:], headers={"Content-Range": f"bytes 4000-{len(data) - 1}/{len(data)}"}
    )
    assert rest.status_code == 201
    bad = await client.put(f"/api/v1/projects/default/blobs/{'0' * 64}", content=data)
    assert bad.status_code == 422
    assert (await client.put("/api/v1/projects/default/blobs/..%2f..%2fx", content=b"x")).status_code in (404, 422)
