"""Tokens that call one service, over the API without a server between."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mlaas.api.app import create_app
from mlaas.app import find_kinds
from mlaas.kernel.auth import Authenticator
from mlaas.kernel.blobs.open import open_blobs
from mlaas.kernel.context import Context
from mlaas.kernel.resource import Meta, Resource
from mlaas.kernel.settings import Settings
from mlaas.kernel.store.open import open_database
from mlaas.kinds.service import routes

IRIS = "/api/v1/projects/default/services/iris"
SPEC = {"predictor": {"remote": {"url": "http://127.0.0.1:9"}}}


class Api:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.app = create_app(context, extra=[routes.router(context)])

    async def token(self, role: str, *projects: str) -> str:
        text, _ = await self.context.auth.issue(f"{role}-{'-'.join(projects)}", role, frozenset(projects) or None)
        return str(text)

    async def ask(self, token: str, method: str, path: str, body: Any = None) -> httpx2.Response:
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
            return await client.request(method, path, json=body)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    kinds = find_kinds()
    database = await open_database(tmp_path / "mlaas.db", kinds)
    (tmp_path / "blobs").mkdir()
    context = Context(Settings(data=tmp_path), database, kinds, open_blobs((tmp_path / "blobs").as_uri()))
    context.auth = Authenticator(database)
    for project in ("default", "physics"):
        await database.create(Resource("project", Meta(project)))
        for name in ("iris", "other"):
            await database.create(Resource("service", Meta(name, project), SPEC, {"phase": "Pending"}))
    yield Api(context)
    await database.close()


async def test_an_editor_makes_one_that_reaches_its_service_alone(api: Api) -> None:
    editor = await api.token("editor", "default")
    made = await api.ask(editor, "POST", f"{IRIS}/tokens", {"name": "app", "ttl": 60})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    found = made.json()
    assert (found["name"], found["project"], found["service"], found["ttl"]) == ("app", "default", "iris", 60)
    secret = found["token"]
    assert secret.startswith("mlaas_svc_")
    answers = {
        path: (await api.ask(secret, "GET", path)).status_code
        for path in (
            IRIS,
            f"{IRIS}/tokens",
            "/api/v1/projects/default/services",
            "/api/v1/projects/default/services/other/proxy/v2/models/other",
            "/api/v1/projects/physics/services/iris/proxy/v2/models/iris",
            "/api/v1/projects/-/workloads",
            "/api/v1/tokens",
            "/api/v1/projects",
        )
    }
    assert set(answers.values()) == {403}, list(answers.values())
    assert (await api.ask(secret, "POST", f"{IRIS}/tokens")).status_code == 403
    listed = (await api.ask(editor, "GET", f"{IRIS}/tokens")).json()["items"]
    assert [item["name"] for item in listed] == ["app"]
    assert "token" not in listed[0]


async def test_who_may_not_change_the_service_makes_none(api: Api) -> None:
    for token in (await api.token("viewer", "default"), await api.token("editor", "physics")):
        for method, path in (("POST", "tokens"), ("GET", "tokens"), ("DELETE", "tokens/x")):
            assert (await api.ask(token, method, f"{IRIS}/{path}")).status_code == 403


async def test_it_renews_itself_and_is_voided(api: Api) -> None:
    editor = await api.token("editor", "default")
    made = (await api.ask(editor, "POST", f"{IRIS}/tokens", {"ttl": 60})).json()
    renewed = await api.ask(made["token"], "POST", f"{IRIS}/tokens/self/renew")
    assert renewed.status_code == 200
    assert renewed.json()["expires"] > made["expires"]
    assert "token" not in renewed.json()
    refused = await api.ask(editor, "POST", f"{IRIS}/tokens/self/renew")
    assert (refused.status_code, "cannot be renewed" in refused.text) == (409, True)
    assert (await api.ask(editor, "DELETE", f"{IRIS}/tokens/nope")).status_code == 404
    other = "/api/v1/projects/default/services/other/tokens"
    assert (await api.ask(editor, "DELETE", f"{other}/{made['name']}")).status_code == 404
    assert (await api.ask(editor, "DELETE", f"{IRIS}/tokens/{made['name']}")).status_code == 204
    assert (await api.ask(made["token"], "POST", f"{IRIS}/tokens/self/renew")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 1e12}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"name": "a:b"}, "name"),
        ({"name": ""}, "name"),
        ({"tll": 5}, "tll"),
        ([], "body"),
    ],
)
async def test_what_cannot_be_made_is_refused_with_its_field(api: Api, body: Any, field: str) -> None:
    refused = await api.ask(await api.token("admin"), "POST", f"{IRIS}/tokens", body)
    assert refused.status_code in (400, 422), refused.text
    assert field in [error["field"] for error in refused.json().get("errors", [{"field": "body"}])]


async def test_a_service_that_is_not_there_has_none(api: Api) -> None:
    missing = "/api/v1/projects/default/services/nope/tokens"
    assert (await api.ask(await api.token("admin"), "POST", missing)).status_code == 404
