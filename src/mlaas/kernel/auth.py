"""Who asks, and what they may do. Every decision of the platform is one call of `allowed`.

A token is `mlaas_` and 256 random bits; the store keeps only its SHA-256. A plain hash is enough for that many random
bits (a slow one protects guessable passwords), and looking the hash up takes a time that tells nothing of any token.
"""

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlaas.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from mlaas.kernel.resource import PLATFORM, now
from mlaas.kernel.store.base import Token, Tokens

Verb = Literal["get", "list", "watch", "create", "update", "delete", "report"]
"""What is done. Reading a log or an event is `get`; cancelling and suspending are `update`; `report` is a workload's."""

PREFIX = "mlaas_"
CALLER_PREFIX = "mlaas_svc_"
"""Begins a token that calls one service and nothing else: programs see by it that the token can be renewed."""
ADMINISTRATOR = "admin"
"""Name of the token that the first start makes."""
ROLES = ("viewer", "editor", "admin")

_READ = frozenset({"get", "list", "watch"})
_WRITE = frozenset({"create", "update", "delete"})
_ADMINISTRATIVE = frozenset({"token", "doctor"})
"""Kinds that only administrators see."""
_OF_ALL = frozenset({"metrics"})
"""Kinds that tell of all projects at once: no token that is limited to some sees them."""
_PROTECTED = frozenset({"project", "queue"})
"""Kinds that everyone in the project sees and only administrators write."""
_CACHED_SECONDS = 5.0  # how long a token that another process revoked is still good
_CACHE_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who was authenticated. `projects` None: all of them. `workload`: the uid, if it is one."""

    name: str
    role: str
    projects: frozenset[str] | None = None
    workload: str | None = None
    inputs: frozenset[str] = frozenset()  # hashes of what a workload reads
    service: str | None = None  # the only one that a caller may ask


def allowed(principal: Principal, verb: Verb, kind: str, project: str | None, name: str | None = None) -> bool:
    """May `principal` do `verb` to resources of `kind` in `project`?

    `project` is PLATFORM ("") for kinds of that scope, and None for "in any of the principal's projects", whose lists
    are then limited to `principal.projects`. `name` matters to workloads and callers only: the uid that a workload reports
    for, the hash of the blob that it reads, the service that a caller asks.
    """
    if project and principal.projects is not None and project not in principal.projects:
        return False
    if principal.role == "workload":
        return _workload_may(principal, verb, kind, name)
    if principal.role == "caller":
        return (verb, kind) == ("get", "service") and bool(project) and name is not None and name == principal.service
    if principal.role not in ROLES:
        return False
    administrator = principal.role == "admin"
    if kind in _ADMINISTRATIVE:
        return administrator and principal.projects is None
    if kind in _OF_ALL:
        return principal.projects is None
    if verb in _READ:
        return True
    if verb not in _WRITE:
        return False
    if project == PLATFORM or (kind == "project" and verb == "create"):
        return administrator and principal.projects is None
    if kind in _PROTECTED:
        return administrator
    return administrator or principal.role == "editor"


def require(principal: Principal, verb: Verb, kind: str, project: str | None, name: str | None = None) -> None:
    """Raises Forbidden, saying what would be needed, unless it is `allowed`."""
    if allowed(principal, verb, kind, project, name):
        return
    where = f" in project '{project}'" if project else ""
    if project and principal.projects is not None and project not in principal.projects:
        hint = f"This token is for {', '.join(sorted(principal.projects)) or 'no project'}: ask for one of '{project}'."
    elif kind in _OF_ALL:
        hint = "This needs a token that is not limited to projects."
    elif principal.role == "caller":
        hint = f"This token only asks the service '{principal.service}': use one of a member of the project."
    elif principal.role == "admin":
        hint = "This needs an administrator's token that is not limited to projects."
    elif kind in _ADMINISTRATIVE or verb in _READ or principal.role != "viewer":
        hint = "This needs a token of role admin."
    else:
        hint = "This needs a token of role editor."
    raise Forbidden(f"'{principal.name}' ({principal.role}) may not {verb} {kind}{where}.", hint=hint)


def _workload_may(principal: Principal, verb: Verb, kind: str, name: str | None) -> bool:
    if (verb, kind) == ("report", "workload"):
        return name is not None and name == principal.workload
    if (verb, kind) == ("get", "blob"):
        return name is not None and name in principal.inputs
    return (verb, kind) == ("create", "blob")


def digest(text: str) -> str:
    """What the store keeps of a token: SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Authenticator:
    """Issues, checks and revokes tokens."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._cache: dict[str, tuple[float, Token]] = {}

    async def authenticate(self, text: str | None) -> Principal:
        """The principal of this bearer token. Raises Unauthenticated."""
        if not text:
            raise Unauthenticated(
                "No token came with the request.",
                hint="Send 'Authorization: Bearer TOKEN'; the administrator's is in DATA/admin-token.",
            )
        token = await self._find(digest(text))
        if token is None:
            raise Unauthenticated("This token is not known here.", hint="It was revoked, or is another platform's.")
        if token.expires is not None and token.expires <= time.time():
            raise Unauthenticated(f"The token '{token.name}' has expired.", hint="Ask an administrator for a new one.")
        return Principal(token.name, token.role, token.projects, token.workload, token.inputs, token.service)

    async def issue(
        self, name: str, role: str, projects: frozenset[str] | None = None, lifetime: float | None = None
    ) -> tuple[str, Token]:
        """A new token: its text, which is shown only now, and what is kept. `lifetime` in seconds; None: for ever.

        Raises Exists when the name is taken, Invalid for an unknown role or a lifetime that is not positive.
        """
        if role not in ROLES:
            raise Invalid(f"There is no role '{role}'.", field="role", hint=f"Roles: {', '.join(ROLES)}.")
        _check(name, lifetime)
        return await self._add(name, role, projects, lifetime)

    async def issue_for_service(self, name: str, project: str, service: str, lifetime: float) -> tuple[str, Token]:
        """A new token that may call this service and do nothing else: its text, which is shown only now, and what is kept.

        It is void `lifetime` seconds from now, or from its last `renew`. Raises Exists and Invalid as `issue`.
        """
        _check(name, lifetime)
        whole = caller_name(project, service, name)
        return await self._add(whole, "caller", frozenset({project}), lifetime, service=service)

    async def renew(self, text: str | None) -> Token:
        """Let a caller's token live for its whole lifetime again. Raises Unauthenticated, Conflict for any other token."""
        await self.authenticate(text)
        token = await self._find(digest(text or ""))
        if token is None or token.lifetime is None:
            raise Conflict("This token cannot be renewed.", hint="Those that `mlaas token create --service` makes can.")
        try:
            token = await self._tokens.prolong_token(token.digest, time.time() + token.lifetime)
        except NotFound as error:
            raise Unauthenticated(error.message, hint="Ask for a new one.") from None
        self._cache.pop(token.digest, None)
        return token

    async def issue_for_workload(self, uid: str, project: str, inputs: frozenset[str] = frozenset()) -> str:
        """The token of a workload: it may report, read the blobs `inputs` and write blobs of its project.

        It is void after `end_workload(uid)`. An earlier one of the same workload becomes void now.
        """
        await self.end_workload(uid)
        text, _ = await self._add(
            f"workload:{uid}", "workload", frozenset({project}), None, workload=uid, inputs=inputs
        )
        return text

    async def end_workload(self, uid: str) -> None:
        """Void the workload's token, if it has one."""
        try:
            await self.revoke(f"workload:{uid}")
        except NotFound:
            pass

    async def revoke(self, name: str) -> None:
        """Void at once. Raises NotFound."""
        await self._tokens.remove_token(name)
        self._cache = {key: entry for key, entry in self._cache.items() if entry[1].name != name}

    async def list(self) -> "list[Token]":
        """All but those of workloads, by name."""
        return [token for token in await self._tokens.tokens() if token.workload is None]

    async def ensure_administrator(self, path: Path) -> None:
        """Have a working administrator's token in the file `path` (mode 0600), as the first start makes it.

        A file that is missing, or whose token is not known (the data base is a new one), is written anew.
        """
        text = _read_private(path)
        if text:
            token = await self._find(digest(text))
            if token is not None and token.role == "admin":
                return
        try:
            await self.revoke(ADMINISTRATOR)
        except NotFound:
            pass
        text, _ = await self._add(ADMINISTRATOR, "admin", None, None)
        write_private(path, text + "\n")

    async def _add(
        self,
        name: str,
        role: str,
        projects: frozenset[str] | None,
        lifetime: float | None,
        workload: str | None = None,
        inputs: frozenset[str] = frozenset(),
        service: str | None = None,
    ) -> tuple[str, Token]:
        text = (PREFIX if service is None else CALLER_PREFIX) + secrets.token_urlsafe(32)
        expires = time.time() + lifetime if lifetime is not None else None
        renewal = None if service is None else lifetime
        token = Token(digest(text), name, role, projects, now(), expires, workload, inputs, service, renewal)
        await self._tokens.add_token(token)
        return text, token

    async def _find(self, key: str) -> Token | None:
        moment = time.monotonic()
        cached = self._cache.get(key)
        if cached is not None and moment - cached[0] < _CACHED_SECONDS:
            return cached[1]
        token = await self._tokens.find_token(key)
        if token is None or not hmac.compare_digest(token.digest, key):
            self._cache.pop(key, None)
            return None
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[key] = (moment, token)
        return token


def caller_name(project: str, service: str, name: str) -> str:
    """The name that the store has for a caller's token: each service has names of its own."""
    return f"service:{project}:{service}:{name}"


def _check(name: str, lifetime: float | None) -> None:
    if not name or ":" in name or len(name) > 100:
        raise Invalid("A token's name has 1 to 100 characters and no ':'.", field="name")
    if lifetime is not None and not lifetime > 0:
        raise Invalid(f"The lifetime {lifetime} is not positive.", field="lifetime")


def _read_private(path: Path) -> str:
    try:
        path.chmod(0o600)
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` so that nobody but its owner could ever read it, and a reader sees all of it or none."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
