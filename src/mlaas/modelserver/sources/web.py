"""A file of a web server, fetched into the cache of inputs.

What is in the cache is known by the address and the server's validator (RFC 9110, section 8.8): its entity tag, else the time of
the last change. An address may end with `#sha256=HEX`, as pip's do: then only that content is taken, and the server is not asked
again once it is here.
"""

import hashlib
import os
import re
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlaas.kernel.errors import Error, Forbidden, Invalid, NotFound, Unavailable
from mlaas.kernel.listen import is_loopback
from mlaas.modelserver.sources.progress import Progress
from mlaas.runtimes.data import cache

_FIELD = "source"
_ATTEMPTS = 5
_REDIRECTS = 5
_DIGEST = re.compile(r"sha256=([0-9a-fA-F]{64})")
_NAMED = re.compile(r'filename="?([^";]+)"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a file is: `url` as it is asked for, `shown` without what may be secret in it, `digest` (SHA-256) or ""."""

    url: str
    host: str
    shown: str
    digest: str


def parse(uri: str) -> Address:
    """Raises Invalid for what is no address of a file, and for plain HTTP to another machine without a digest."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"'{uri[:200]}' is no address: {error}.", field=_FIELD) from None
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    shown = f"{parts.scheme}://{place}{parts.path}"[:300]
    if not host:
        raise Invalid(f"'{shown}' names no server.", field=_FIELD, hint="Write https://server/path/model.onnx.")
    digest = _DIGEST.fullmatch(parts.fragment)
    if parts.fragment and digest is None:
        raise Invalid(
            f"'#{parts.fragment[:100]}' says nothing about the file.",
            field=_FIELD,
            hint="Write #sha256= and 64 digits.",
        )
    if parts.scheme == "http" and digest is None and not is_loopback(host):
        raise Invalid(
            f"Anybody on the way could change what {shown} sends.",
            field=_FIELD,
            hint="Use https://, or say what the file is: add #sha256= and its SHA-256 to the address.",
        )
    return Address(parts._replace(fragment="").geturl(), host, shown, digest[1].lower() if digest else "")


def fetch(address: Address, folder: Path, progress: Progress) -> tuple[Path, str]:
    """The file in the cache `folder`, and the identity that it has there.

    Raises NotFound, Forbidden where credentials are missing or do not do, Invalid for what is no file or not the one that the
    digest says, Unavailable.
    """
    if address.digest:
        identity = f"{address.url}\0{address.digest}"
        return _only(cache.entry(folder, identity, 0, lambda partial: _anew(address, partial, progress))), identity
    with _asked(address) as (client, answer):
        tag = answer.headers.get("etag") or answer.headers.get("last-modified") or uuid.uuid4().hex
        identity = f"{address.url}\0{tag}\0{_length(answer)}"

        def take(partial: Path) -> None:
            _take(client, address, answer, partial, progress)

        return _only(cache.entry(folder, identity, _length(answer), take)), identity


def _only(content: Path) -> Path:
    return next(path for path in content.iterdir() if not path.name.startswith("."))


def _anew(address: Address, partial: Path, progress: Progress) -> None:
    with _asked(address) as (client, answer):
        _take(client, address, answer, partial, progress)


@contextmanager
def _asked(address: Address) -> Iterator[tuple[Any, Any]]:
    """The client, and its answer whose body has not been read. Raises why there is none."""
    import httpx2

    def secure(request: Any) -> None:
        if address.url.startswith("https:") and request.url.scheme != "https" and not address.digest:
            raise Invalid(f"{address.shown} leads to an address without encryption, {request.url.host}.", field=_FIELD)

    netrc = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    with (
        _explained(address),
        httpx2.Client(
            timeout=httpx2.Timeout(60.0, connect=10.0),
            follow_redirects=True,
            max_redirects=_REDIRECTS,
            auth=httpx2.NetRCAuth(str(netrc)) if netrc.is_file() and not urlsplit(address.url).username else None,
            event_hooks={"request": [secure]},
        ) as client,
        client.stream("GET", address.url, headers={"accept-encoding": "identity", "accept": "*/*"}) as answer,
    ):
        _check(address, answer)
        yield client, answer


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    import netrc

    import httpx2

    try:
        yield
    except Error:
        raise
    except httpx2.TooManyRedirects:
        raise Invalid(f"{address.shown} leads from one address to the next without end.", field=_FIELD) from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Invalid(f"'{address.shown}' is no address: {error}.", field=_FIELD) from None
    except httpx2.HTTPError as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise Unavailable(
            f"{address.shown} cannot be fetched: {why}.",
            field=_FIELD,
            hint="Check the address and the network; SSL_CERT_FILE names certificates of one's own.",
        ) from None
    except netrc.NetrcParseError as error:
        raise Invalid(f"The file of credentials cannot be read: {error}.", field=_FIELD) from None


def _check(address: Address, answer: Any) -> None:
    status = answer.status_code
    if status in (401, 403):
        raise Forbidden(
            f"The server does not hand out {address.shown} ({status}).",
            field=_FIELD,
            hint=f"Put 'machine {address.host} login NAME password SECRET' into ~/.netrc (mode 0600).",
        )
    if status in (404, 410):
        raise NotFound(f"There is nothing at {address.shown} ({status}).", field=_FIELD, hint="Check the address.")
    if status == 429 or status >= 500:
        raise Unavailable(f"The server cannot send {address.shown} now ({status}).", field=_FIELD, hint="Try again.")
    if status != 200:
        raise Invalid(f"The server answers {status} for {address.shown}.", field=_FIELD)
    if answer.headers.get("content-type", "").startswith("text/html"):
        raise Invalid(
            f"{address.shown} is a web page, not a model.",
            field=_FIELD,
            hint="Name the address of the file itself; a page that asks to log in looks like this too.",
        )


def _length(answer: Any) -> int:
    text = answer.headers.get("content-length", "")
    return int(text) if text.isdecimal() else 0


def _name(address: Address, answer: Any) -> str:
    """What the file is called: by the server, else by the address. Never a path."""
    found = _NAMED.search(answer.headers.get("content-disposition", ""))
    text = found[1] if found else unquote(urlsplit(address.url).path)
    name = "".join(letter for letter in text.replace("\\", "/") if unicodedata.category(letter) != "Cc")
    return name.rstrip("/").rpartition("/")[2].lstrip(".")[-200:] or "model"


def _take(client: Any, address: Address, answer: Any, partial: Path, progress: Progress) -> None:
    """Write the body to `partial/content/NAME`; what breaks off is gone on with where the server can do that."""
    size = _length(answer)
    progress.begin(size)
    folder = partial / "content"
    folder.mkdir(exist_ok=True)
    part = folder / ".part"
    digest, at = hashlib.sha256(), 0
    with part.open("wb") as file:
        for piece in _pieces(client, address, answer, size):
            file.write(piece)
            digest.update(piece)
            at += len(piece)
            progress.add(len(piece))
    if size and at != size:
        raise Unavailable(f"{address.shown} ended after {at} of {size} bytes.", field=_FIELD, hint="Try again.")
    if not at:
        raise Invalid(f"{address.shown} is empty.", field=_FIELD)
    if address.digest and digest.hexdigest() != address.digest:
        raise Invalid(
            f"{address.shown} is not the file that was meant: its SHA-256 is {digest.hexdigest()}.",
            field=_FIELD,
            hint=f"The address asks for {address.digest}.",
        )
    part.rename(folder / _name(address, answer))


def _pieces(client: Any, address: Address, first: Any, size: int) -> Iterator[bytes]:
    import httpx2

    tag = first.headers.get("etag", "")
    answer, at = first, 0
    for attempt in range(_ATTEMPTS):
        try:
            for piece in answer.iter_raw():
                at += len(piece)
                yield piece
            return
        except httpx2.TransportError:
            if attempt + 1 == _ATTEMPTS or at >= size or not tag or tag.startswith("W/"):
                raise
        finally:
            answer.close()
        headers = {"accept-encoding": "identity", "range": f"bytes={at}-", "if-range": tag}
        answer = client.send(client.build_request("GET", address.url, headers=headers), stream=True)
        if answer.status_code != 206:
            answer.close()
            raise Unavailable(f"{address.shown} broke off, and changed meanwhile.", field=_FIELD, hint="Try again.")
