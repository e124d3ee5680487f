"""Objects of S3, through obstore, set up by the conventional variables: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION, AWS_CA_BUNDLE."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from mlaas.kernel.blobs.tree import CLAIM, MARK
from mlaas.kernel.blobs.uri import split_s3
from mlaas.kernel.errors import Error, Exists, Forbidden, Invalid, NotFound, Unavailable

_HINT = "Check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the platform."


_INSTANCE_ROLE = "http://169.254.169.254/"  # docs.aws.amazon.com, "Use the Instance Metadata Service"


class Nothing(Invalid):
    """Neither an object nor a prefix with objects is at this uri."""


def store_of(bucket: str, environment: Mapping[str, str] | None = None) -> S3Store:
    """The bucket, by the variables named above. A custom endpoint is addressed by path, and without keys anonymously."""
    env = os.environ if environment is None else environment
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"region": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"}
    client: dict[str, Any] = {"timeout": "120s", "connect_timeout": "5s"}
    if endpoint:
        options["endpoint"] = endpoint.rstrip("/")
        options["virtual_hosted_style_request"] = False
        client["allow_http"] = endpoint.startswith("http://")
    for name, option in (
        ("AWS_ACCESS_KEY_ID", "access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
        ("AWS_SESSION_TOKEN", "session_token"),
    ):
        if env.get(name):
            options[option] = env[name]
    if endpoint and not env.get("AWS_ACCESS_KEY_ID"):
        options["skip_signature"] = True
    return S3Store(
        bucket,
        client_options=client,  # type: ignore[arg-type]
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
        **options,
    )


_BUCKET = re.compile(
    r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
)  # docs.aws.amazon.com/AmazonS3, "General purpose bucket naming rules"


@contextmanager
def explained(uri: str, field: str | None = None) -> Iterator[None]:
    """Errors of obstore in our words: NotFound, Forbidden (a denied key), Exists, Unavailable; each names the uri."""
    try:
        yield
    except Error:
        raise
    except FileNotFoundError:
        raise NotFound(f"There is nothing at {uri}.", field=field) from None
    except FileExistsError:
        raise Exists(f"There is something at {uri} already.", field=field) from None
    except (PermissionDeniedError, UnauthenticatedError):
        raise Forbidden(f"S3 denies access to {uri} with the platform's keys.", field=field, hint=_HINT) from None
    except BaseError as error:
        text = str(error)
        if "AlreadyExists" in type(error).__name__:
            raise Exists(f"There is something at {uri} already.", field=field) from None
        if "NoSuchBucket" in text:
            raise Invalid(f"There is no bucket for {uri}.", field=field) from None
        # The answer to a HEAD has no body that would say which name is wrong.
        wrong = "400 Bad Request" in text and not _BUCKET.fullmatch(uri.removeprefix("s3://").split("/")[0])
        if wrong or "InvalidBucketName" in text or "KeyTooLong" in text:
            raise Invalid(f"{uri} is no name that S3 takes.", field=field, hint="Write s3://bucket/key.") from None
        if any(
            word in text
            for word in ("XAdminUserNotFound", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied")
        ):
            raise Forbidden(f"S3 denies access to {uri} with the platform's keys.", field=field, hint=_HINT) from None
        if _INSTANCE_ROLE in text:  # where keys are asked for when none is set
            raise Forbidden(
                f"The platform has no keys for S3: {uri} cannot be reached.", field=field, hint=_HINT
            ) from None
        raise Unavailable(f"S3 does not answer for {uri}: {_first_line(text)}", field=field, hint=_HINT) from None


def _first_line(text: str) -> str:
    """Without the time that it took: the same failure is the same text."""
    return re.sub(r" in [\d.]+(ns|µs|us|ms|s)\b", "", text.strip().split("\n")[0])[:300]


@dataclass(frozen=True, slots=True)
class Object:
    """One object: `name` relative to what was asked for, and its entity tag, which changes with its content."""

    name: str
    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What an s3 uri names: one object (`single`), or all objects below a prefix."""

    uri: str
    objects: tuple[Object, ...]
    single: bool

    @property
    def hash(self) -> str:
        """SHA-256 of names, entity tags and sizes: changes whenever the content does, and needs no download."""
        lines = "".join(f"{item.name}\0{item.etag}\0{item.size}\n" for item in self.objects)
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def size(self) -> int:
        return sum(item.size for item in self.objects)


def listing(uri: str, field: str | None = None, environment: Mapping[str, str] | None = None) -> Listing:
    """What is at an s3 uri. Raises Nothing, Forbidden when the keys do not reach it, Unavailable."""
    bucket, key = split_s3(uri)
    store = store_of(bucket, environment)
    with explained(uri, field):
        try:
            meta = store.head(key)
        except FileNotFoundError:
            pass
        else:
            found = Object(posixpath.basename(key), key, meta["size"], _etag(meta))
            return Listing(uri, (found,), single=True)
        objects = []
        for batch in store.list(key + "/"):
            for item in batch:
                name = item["path"].removeprefix(key + "/")
                if name and not item["path"].endswith("/") and name not in (MARK, CLAIM):
                    objects.append(Object(name, item["path"], item["size"], _etag(item)))
    if not objects:
        raise Nothing(
            f"There is nothing at {uri}.", field=field, hint="Check bucket and key; a folder is a key prefix."
        )
    for one in objects:
        if any(part in ("", ".", "..") or "\0" in part for part in one.name.split("/")):
            raise Invalid(f"The object '{one.key}' below {uri} cannot be a file in a folder.", field=field)
    return Listing(uri, tuple(sorted(objects, key=lambda item: item.name)), single=False)


def _etag(meta: Any) -> str:
    return str(meta.get("e_tag") or meta.get("last_modified")).strip('"')


def upload(store: S3Store, path: Path, key: str) -> None:
    """Put one file; above 8 MiB in parts. Raises what obstore raises."""
    store.put(key, path, chunk_size=8 << 20, max_concurrency=4)
