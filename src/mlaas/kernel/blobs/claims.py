"""Claims on volumes (`pvc://CLAIM/PATH`, as KServe names them). On one machine a claim is a folder of its project:
`DATA/files/volumes/PROJECT/CLAIM`."""

from pathlib import Path

from mlaas.kernel.blobs.resolve import Resolved, Resolver, Scheme
from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import NAME


def folder(files: Path, project: str, claim: str) -> Path:
    """Where a claim's content lies."""
    return files / "volumes" / project / claim


def claims(resolver: Resolver, files: Path) -> Scheme:
    """The function that resolves `pvc:` references; `files` is the root of users' files in the data folder."""

    def resolve(rest: str, field: str, project: str) -> Resolved:
        claim, _, path = rest.removeprefix("//").partition("/")
        parts = [part for part in path.split("/") if part]
        if not rest.startswith("//") or not NAME.fullmatch(claim) or ".." in parts:
            raise Invalid(f"'pvc:{rest[:200]}' is no place on a claim.", field=field, hint="Write pvc://CLAIM/PATH.")
        place = folder(files, project, claim)
        if not place.is_dir():
            raise Invalid(
                f"There is no claim '{claim}' in project '{project}'.",
                field=field,
                hint=f"On one machine it is {place}.",
            )
        return resolver.resolve(str(place.joinpath(*parts)), "local", field, project=project)

    return resolve
