import pytest

NOTES = "/api/v1/projects/default/notes"
JOBS = "/api/v1/projects/default/jobs"


async def make(client, name="a", path=NOTES, **spec):
    response = await client.post(path, json={"kind": path.split("/")[-1][:-1], "meta": {"name": name}, "spec": spec})
    assert response.status_code == 201, response.text
    return response.json()


async def test_a_resource_is_created_and_read(client):
    response = await client.post(NOTES, json={"kind": "note", "meta": {"name": "a"}, "spec": {"text": "x"}})
    assert response.status_code == 201
    assert response.headers["location"] == f"{NOTES}/a"
    made = response.json()
    assert made["meta"]["project"] == "default"
    assert made["spec"] == {"text": "x"}
    again = await client.get(f"{NOTES}/a")
    assert again.json() == made
    assert again.headers["etag"] == f'"{made["meta"]["version"]}"'


async def test_the_status_of_a_request_is_ignored(client):
    body = {"kind": "note", "meta": {"name": "a"}, "spec": {}, "status": {"phase": "Succeeded"}}
    assert (await client.post(NOTES, json=body)).json()["status"] == {}


async def test_the_form_of_kubernetes_is_accepted(client):
    body = {
        "apiVersion": "mlaas/v1",
        "kind": "Note",
        "metadata": {"name": "k", "namespace": "default", "labels": {"a": "b"}, "annotations": {"x": "y"}},
        "spec": {"stars": 3},
    }
    made = (await client.post(NOTES, json=body)).json()
    assert made["meta"]["labels"] == {"a": "b"}
    assert made["spec"] == {"stars": 3}


async def test_a_body_in_yaml_or_as_curl_sends_it(client):
    yaml = "kind: note\nmeta: {name: y}\nspec: {text: NO}\n"
    made = await client.post(NOTES, content=yaml, headers={"Content-Type": "application/yaml"})
    assert made.json()["spec"] == {"text": "NO"}
    curl = await client.post(
        NOTES,
        content='{"kind": "note", "meta": {"name": "c"}, "spec": {}}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert curl.status_code == 201


async def test_a_name_is_made_when_there_is_none(client):
    made = (await client.post(NOTES, json={"spec": {}})).json()
    assert made["meta"]["name"].startswith("note-")


async def test_a_taken_name_is_a_conflict(client):
    await make(client)
    response = await client.post(NOTES, json={"meta": {"name": "a"}, "spec": {}})
    assert (response.status_code, response.json()["code"]) == (409, "exists")


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"spec": {"tekst": "x"}}, "spec.tekst", "'text'"),
        ({"spec": {"stars": 9}}, "spec.stars", "at most 5"),
        ({"spce": {}}, "spce", "'spec'"),
        ({"meta": {"nmae": "x"}, "spec": {}}, "meta.nmae", "'name'"),
        ({"kind": "task", "spec": {}}, "kind", "'note'"),
        ({"meta": {"name": "Upper"}}, "meta.name", ""),
        ({"meta": {"name": "x" * 51}}, "meta.name", ""),
        ({"meta": {"name": "../../etc"}}, "meta.name", ""),
        ({"meta": {"name": "a\nb"}}, "meta.name", ""),
        ({"meta": {"name": "ünïcode"}}, "meta.name", ""),
        ({"meta": {"labels": {"a,b": "c"}}}, "meta.labels", ""),
        ({"meta": {}, "metadata": {}}, "metadata", "not both"),
        ([1, 2], "body", "a list"),
        ("text", "body", "a text"),
    ],
)
async def test_a_wrong_field_is_named(client, body, field, words):
    response = await client.post(NOTES, json=body)
    problem = response.json()
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["field"].startswith(field)
    assert words in str(problem)


async def test_what_a_kind_refuses_is_refused(client):
    response = await client.post(JOBS, json={"spec": {"command": ["forbidden"]}})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "spec.command")


async def test_an_unknown_project_says_the_nearest(client):
    for response in (
        await client.post("/api/v1/projects/defualt/notes", json={"spec": {}}),
        await client.get("/api/v1/projects/defualt/notes"),
    ):
        assert response.status_code == 404
        assert "'default'" in response.json()["hint"]


async def test_a_path_that_is_not_there_says_the_nearest(client):
    response = await client.get("/api/v1/projects/default/note")
    assert response.status_code == 404
    assert "/api/v1/projects/default/notes" in response.json()["hint"]


async def test_replace_needs_the_version_that_was_read(client):
    made = await make(client)
    body = {"spec": {"text": "new"}}
    assert (await client.put(f"{NOTES}/a", json=body)).status_code == 428
    stale = await client.put(f"{NOTES}/a", json=body, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed")
    fresh = await client.put(f"{NOTES}/a", json=body, headers={"If-Match": f'"{made["meta"]["version"]}"'})
    assert fresh.status_code == 200
    assert fresh.json()["meta"]["generation"] == 2
    forced = await client.put(f"{NOTES}/a", json={"spec": {}}, headers={"If-Match": "*"})
    assert forced.json()["spec"] == {}
    assert (await client.put(f"{NOTES}/a", json=body, headers={"If-Match": "x"})).status_code == 400


async def test_what_was_read_can_be_sent_back(client):
    made = await make(client, text="x")
    made["spec"]["stars"] = 2
    response = await client.put(f"{NOTES}/a", json=made)
    assert response.status_code == 200, response.text
    assert response.json()["spec"] == {"text": "x", "stars": 2}


async def test_a_merge_patch_changes_and_removes(client):
    await make(client, text="x", stars=1)
    response = await client.patch(f"{NOTES}/a", json={"meta": {"labels": {"k": "v"}}, "spec": {"stars": None}})
    assert response.json()["spec"] == {"text": "x"}
    assert response.json()["meta"]["labels"] == {"k": "v"}
    stale = await client.patch(f"{NOTES}/a", json={"spec": {"stars": 1}}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert (await client.patch(f"{NOTES}/a", json=[{"op": "add"}])).status_code == 422


async def test_an_immutable_field_is_named(client):
    await make(client, "j", JOBS, command=["a"])
    response = await client.patch(f"{JOBS}/j", json={"spec": {"command": ["b"]}})
    assert (response.status_code, response.json()["code"]) == (409, "immutable")
    assert response.json()["errors"][0]["field"] == "spec.command"
    assert (await client.patch(f"{JOBS}/j", json={"spec": {"priority": 3}})).status_code == 200
    # Left out is the default: nothing changes.
    assert (await client.patch(f"{JOBS}/j", json={"spec": {"retries": 0}})).status_code == 200
    assert (await client.patch(f"{JOBS}/j", json={"meta": {"name": "k"}})).json()["code"] == "immutable"


async def test_delete_marks_while_there_are_finalizers(client):
    await make(client)
    await make(client, "j", JOBS, command=["a"])
    assert (await client.delete(f"{NOTES}/a")).status_code == 200
    assert (await client.get(f"{NOTES}/a")).status_code == 404
    marked = await client.delete(f"{JOBS}/j")
    assert marked.status_code == 202
    assert marked.json()["meta"]["deleted"]
    assert (await client.delete(f"{JOBS}/j")).status_code == 202
    assert (await client.post(JOBS, json={"meta": {"name": "j"}, "spec": {"command": []}})).status_code == 409


async def test_lists_are_filtered_ordered_and_paged(client):
    for name, labels in (("b", {"t": "1"}), ("a", {"t": "1", "u": "2"}), ("c", {})):
        await client.post(NOTES, json={"meta": {"name": name, "labels": labels}, "spec": {}})

    async def names(**query):
        return [item["meta"]["name"] for item in (await client.get(NOTES, params=query)).json()["items"]]

    assert await names() == ["a", "b", "c"]
    assert await names(order="-created") == ["c", "a", "b"]
    assert await names(labels="t=1") == ["a", "b"]
    assert await names(labelSelector="t=1,u=2") == ["a"]
    assert await names(prefix="c") == ["c"]
    page = (await client.get(NOTES, params={"limit": 2})).json()
    assert len(page["items"]) == 2
    assert await names(limit=2, after=page["next"]) == ["c"]
    assert (await client.get(NOTES, params={"after": "x"})).status_code == 422
    assert (await client.get(NOTES, params={"labels": "t"})).status_code == 422
    unknown = await client.get(NOTES, params={"label_s": "t=1"})
    assert unknown.status_code == 422
    assert "labels" in unknown.json()["hint"]


async def test_across_projects(client):
    await make(client)
    await make(client, "b", "/api/v1/projects/physics/notes")
    items = (await client.get("/api/v1/projects/-/notes")).json()["items"]
    assert [(item["meta"]["project"], item["meta"]["name"]) for item in items] == [("default", "a"), ("physics", "b")]
    refused = await client.post("/api/v1/projects/-/notes", json={"spec": {}})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_a_kind_that_only_the_platform_writes(client):
    path = "/api/v1/projects/default/workloads"
    assert (await client.get(path)).status_code == 200
    refused = await client.post(path, json={"spec": {}})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_methods_that_a_path_does_not_have(client):
    response = await client.request("TRACE", f"{NOTES}/a")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"
    assert response.json()["code"] == "method-not-allowed"


async def test_platform_kinds_have_no_project_in_their_path(client):
    made = await client.post("/api/v1/projects", json={"kind": "project", "meta": {"name": "third"}})
    assert made.status_code == 201
    assert made.json()["meta"]["project"] == ""
    assert (await client.get("/api/v1/projects/third")).status_code == 200
    assert (await client.delete("/api/v1/projects/default")).status_code == 409


async def test_apply_tells_of_each_document(client):
    yaml = """
kind: project
meta: {name: fourth}
---
kind: note
meta: {name: n, project: fourth}
spec: {stars: 1}
---
kind: note
meta: {name: m}
spec: {stars: 7}
---
kind: nothing
meta: {name: m}
"""

    async def apply(text):
        response = await client.post("/api/v1/apply", content=text, headers={"Content-Type": "application/yaml"})
        assert response.status_code == 200, response.text
        return [item.get("action") or item["error"]["code"] for item in response.json()["items"]]

    assert await apply(yaml) == ["created", "created", "invalid", "invalid"]
    assert await apply(yaml) == ["unchanged", "unchanged", "invalid", "invalid"]
    assert (await apply(yaml.replace("stars: 1", "stars: 2")))[1] == "configured"


async def test_metrics_and_events_of_a_resource(api, client):
    from mlaas.kernel.store.base import Event, Point

    uid = (await make(client))["meta"]["uid"]
    await api.context.database.append([Point(uid, "loss", 1, 0.5, 2.0), Point(uid, "loss", 2, 0.6, 1.0)])
    await api.context.database.record(Event(uid, "default", "note", "a", "Written", "by hand"))
    points = (await client.get(f"{NOTES}/a/metrics")).json()
    assert [point["value"] for point in points["items"]] == [2.0, 1.0]
    assert (await client.get(f"{NOTES}/a/metrics", params={"after": points["next"]})).json()["items"] == []
    events = (await client.get(f"{NOTES}/a/events")).json()["items"]
    assert [(event["reason"], event["count"]) for event in events] == [("Written", 1)]
