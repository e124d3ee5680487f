"""Tokens and the one decision."""

import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mlaas.kernel.auth import Authenticator, Principal, allowed, require
from mlaas.kernel.errors import Conflict, Exists, Forbidden, Invalid, NotFound, Unauthenticated
from mlaas.kernel.resource import PLATFORM, Kinds
from mlaas.kernel.store.base import Database
from mlaas.kernel.store.open import open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "mlaas.db", Kinds([]))
    yield database
    await database.close()


@pytest.fixture
def auth(database: Database) -> Authenticator:
    return Authenticator(database)


VIEWER = Principal("v", "viewer", frozenset({"p"}))
EDITOR = Principal("e", "editor", frozenset({"p"}))
LEAD = Principal("l", "admin", frozenset({"p"}))
ADMIN = Principal("a", "admin")
CALLER = Principal("c", "caller", frozenset({"p"}), service="iris")
WORKLOAD = Principal("w", "workload", frozenset({"p"}), "uid-1", frozenset({"hash-1"}))


@pytest.mark.parametrize(
    ("verb", "kind", "project", "who"),
    [
        ("get", "task", "p", "VELA"),
        ("get", "task", "q", "A"),
        ("list", "task", None, "VELA"),
        ("create", "task", "p", "ELA"),
        ("delete", "task", "p", "ELA"),
        ("update", "task", "q", "A"),
        ("get", "project", PLATFORM, "VELA"),
        ("create", "project", PLATFORM, "A"),
        ("create", "project", "p", "A"),
        ("update", "project", "p", "LA"),
        ("update", "queue", PLATFORM, "A"),
        ("list", "token", PLATFORM, "A"),
        ("create", "token", PLATFORM, "A"),
        ("report", "workload", "p", ""),
        ("dance", "task", "p", ""),
    ],
)
def test_roles(verb: str, kind: str, project: str | None, who: str) -> None:
    everyone = {"V": VIEWER, "E": EDITOR, "L": LEAD, "A": ADMIN, "W": WORKLOAD, "X": Principal("x", "unknown")}
    assert "".join(key for key, one in everyone.items() if allowed(one, verb, kind, project)) == who  # type: ignore[arg-type]


def test_a_workload_reaches_only_its_own() -> None:
    assert allowed(WORKLOAD, "report", "workload", "p", "uid-1")
    assert not allowed(WORKLOAD, "report", "workload", "p", "uid-2")
    assert not allowed(WORKLOAD, "report", "workload", "q", "uid-1")
    assert allowed(WORKLOAD, "get", "blob", "p", "hash-1")
    assert not allowed(WORKLOAD, "get", "blob", "p", "hash-2")
    assert not allowed(WORKLOAD, "get", "blob", "p")
    assert allowed(WORKLOAD, "create", "blob", "p", "hash-3")


def test_a_caller_asks_one_service_and_nothing_else() -> None:
    assert allowed(CALLER, "get", "service", "p", "iris")
    for verb, kind, project, name in (
        ("get", "service", "p", "other"),
        ("get", "service", "q", "iris"),
        ("get", "service", "p", None),
        ("get", "service", None, "iris"),
        ("update", "service", "p", "iris"),
        ("list", "service", "p", None),
        ("get", "task", "p", "iris"),
        ("get", "blob", "p", "iris"),
        ("list", "token", None, None),
        ("get", "metrics", None, None),
    ):
        assert not allowed(CALLER, verb, kind, project, name), (verb, kind, project, name)  # type: ignore[arg-type]
    with pytest.raises(Forbidden) as caught:
        require(CALLER, "list", "task", "p")
    assert "only asks the service 'iris'" in str(caught.value.hint)


async def test_a_callers_token_lives_on_when_it_is_renewed(
    auth: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, token = await auth.issue_for_service("app", "p", "iris", 60)
    assert re.fullmatch(r"mlaas_svc_[-_A-Za-z0-9]{43}", text), "256 bits"
    principal = await auth.authenticate(text)
    assert (principal.role, principal.projects, principal.service) == ("caller", frozenset({"p"}), "iris")
    assert token.expires is not None
    begin = token.expires - 60
    monkeypatch.setattr("mlaas.kernel.auth.time.time", lambda: begin + 50)
    assert (await auth.renew(text)).expires == begin + 110
    monkeypatch.setattr("mlaas.kernel.auth.time.time", lambda: begin + 100)
    await auth.authenticate(text)
    monkeypatch.setattr("mlaas.kernel.auth.time.time", lambda: begin + 110)
    for late in (auth.authenticate(text), auth.renew(text)):
        with pytest.raises(Unauthenticated, match="expired"):
            await late


async def test_only_a_callers_token_is_renewed_and_a_revoked_one_is_not(auth: Authenticator) -> None:
    text, _ = await auth.issue("ci", "editor", lifetime=60)
    with pytest.raises(Conflict, match="cannot be renewed"):
        await auth.renew(text)
    text, _ = await auth.issue_for_service("app", "p", "iris", 60)
    await auth.issue_for_service("app", "q", "iris", 60)
    with pytest.raises(Exists):
        await auth.issue_for_service("app", "p", "iris", 60)
    await auth.revoke("service:p:iris:app")
    with pytest.raises(Unauthenticated):
        await auth.renew(text)


def test_require_says_what_is_needed() -> None:
    require(EDITOR, "create", "task", "p")
    with pytest.raises(Forbidden, match=r"'v' \(viewer\) may not create task in project 'p'") as caught:
        require(VIEWER, "create", "task", "p")
    assert "role editor" in str(caught.value.hint)
    with pytest.raises(Forbidden) as caught:
        require(VIEWER, "get", "task", "q")
    assert "ask for one of 'q'" in str(caught.value.hint)


async def test_a_token_authenticates_until_it_is_revoked(auth: Authenticator) -> None:
    text, token = await auth.issue("ci", "editor", frozenset({"p"}))
    assert re.fullmatch(r"mlaas_[-_A-Za-z0-9]{43}", text), "256 bits"
    assert token.digest not in text
    principal = await auth.authenticate(text)
    assert (principal.name, principal.role, principal.projects) == ("ci", "editor", frozenset({"p"}))
    await auth.revoke("ci")
    with pytest.raises(Unauthenticated):
        await auth.authenticate(text)
    with pytest.raises(NotFound):
        await auth.revoke("ci")


@pytest.mark.parametrize("text", [None, "", "mlaas_x", "é\ud800"])
async def test_strangers_are_unauthenticated(auth: Authenticator, text: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await auth.authenticate(text)
    assert caught.value.hint


async def test_a_token_expires_also_in_the_cache(auth: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    text, token = await auth.issue("short", "viewer", lifetime=60)
    await auth.authenticate(text)
    assert token.expires is not None
    monkeypatch.setattr("mlaas.kernel.auth.time.time", lambda: token.expires)
    with pytest.raises(Unauthenticated, match="expired"):
        await auth.authenticate(text)


async def test_the_store_never_sees_a_token(auth: Authenticator, tmp_path: Path) -> None:
    text, _ = await auth.issue("ci", "admin")
    files = [(tmp_path / name).read_bytes() for name in ("mlaas.db", "mlaas.db-wal")]
    assert not any(text.encode() in content for content in files)


async def test_bad_tokens_are_not_issued(auth: Authenticator) -> None:
    await auth.issue("ci", "viewer")
    with pytest.raises(Exists):
        await auth.issue("ci", "viewer")
    for name, role, lifetime in (
        ("x", "workload", None),
        ("x", "root", None),
        ("a:b", "viewer", None),
        ("x", "viewer", 0),
    ):
        with pytest.raises(Invalid):
            await auth.issue(name, role, lifetime=lifetime)


async def test_a_workloads_token_is_void_at_its_end(auth: Authenticator) -> None:
    first = await auth.issue_for_workload("uid-1", "p")
    text = await auth.issue_for_workload("uid-1", "p", frozenset({"h"}))
    with pytest.raises(Unauthenticated):
        await auth.authenticate(first)
    principal = await auth.authenticate(text)
    assert allowed(principal, "report", "workload", "p", "uid-1")
    assert await auth.list() == []
    await auth.end_workload("uid-1")
    await auth.end_workload("uid-1")
    with pytest.raises(Unauthenticated):
        await auth.authenticate(text)


async def test_the_administrators_token(auth: Authenticator, database: Database, tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    await auth.ensure_administrator(path)
    text = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert allowed(await auth.authenticate(text), "create", "token", PLATFORM)
    path.chmod(0o644)
    await Authenticator(database).ensure_administrator(path)
    assert path.read_text().strip() == text, "a later start keeps it"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    await auth.ensure_administrator(path)
    assert path.read_text().strip() != text
    with pytest.raises(Unauthenticated):
        await auth.authenticate(text)
