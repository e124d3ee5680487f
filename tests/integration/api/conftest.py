"""The API over a real store, without a server between: two kinds of its own and the real project kind."""

from dataclasses import dataclass

import httpx2
import pytest
from pydantic import Field

from mlaas.api.app import create_app
from mlaas.api.watch import Hub
from mlaas.kernel.auth import Authenticator
from mlaas.kernel.blobs.open import open_blobs
from mlaas.kernel.context import Context
from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import Kind, Kinds, Meta, Resource, Spec
from mlaas.kernel.settings import Settings
from mlaas.kernel.store.open import open_database
from mlaas.kinds.project.spec import KIND as PROJECT


class NoteSpec(Spec):
    text: str = Field("", max_length=100_000)
    stars: int = Field(0, ge=0, le=5)


class JobSpec(Spec):
    command: list[str]
    priority: int = 0
    retries: int = Field(0, ge=0)


async def refuse_forbidden(_context, resource):
    if resource.spec["command"] == ["forbidden"]:
        raise Invalid("this command cannot run", field="spec.command")


NOTE = Kind("note", "notes", NoteSpec)
JOB = Kind(
    "job",
    "jobs",
    JobSpec,
    mutable=frozenset({"priority"}),
    finalizers=("job/end",),
    validate=refuse_forbidden,
)
SHADOW = Kind("workload", "workloads", NoteSpec, creatable=False)


@dataclass
class Api:
    context: Context
    hub: Hub
    app: object
    secret: str

    def client(self, token=None):
        headers = {"Authorization": f"Bearer {token or self.secret}"}
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://api", headers=headers
        )

    async def token(self, name, role, *projects):
        text, _ = await self.context.auth.issue(name, role, frozenset(projects) or None)
        return text


@pytest.fixture
async def api(tmp_path):
    kinds = Kinds([PROJECT, NOTE, JOB, SHADOW])
    database = await open_database(tmp_path / "mlaas.db", kinds)
    (tmp_path / "blobs").mkdir()
    settings = Settings(data=tmp_path)
    context = Context(settings, database, kinds, open_blobs((tmp_path / "blobs").as_uri()))
    context.auth = Authenticator(database)
    await context.auth.ensure_administrator(tmp_path / "admin-token")
    for name in ("default", "physics"):
        await database.create(Resource("project", Meta(name)))
    hub = Hub(database)
    secret = (tmp_path / "admin-token").read_text().strip()
    yield Api(context, hub, create_app(context, hub), secret)
    hub.close()
    await database.close()


@pytest.fixture
async def client(api):
    async with api.client() as found:
        yield found
