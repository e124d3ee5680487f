"""Reading an object of a manifest field by field, so that nothing of it is passed over in silence."""

from collections.abc import Iterable
from typing import Any

from mlaas.interop.foreign import Notes
from mlaas.kernel.resource import Json
from mlaas.kernel.validation import nearest


class Block:
    """One object. Each field is taken once, with its type; `end` refuses what nobody took. A field that is null counts as left
    out. Wrong types are noted, and the default is returned."""

    def __init__(self, value: Any, path: str, notes: Notes) -> None:
        if not isinstance(value, dict):
            if value is not None:
                notes.refuse(path, "must be an object")
            value = {}
        self.path = path
        self.notes = notes
        self._left = {key: item for key, item in value.items() if item is not None}
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def __bool__(self) -> bool:
        return bool(self._left)

    def at(self, key: str) -> str:
        """The path of a field."""
        return f"{self.path}.{key}" if self.path else key

    def raw(self, key: str) -> Any:
        self._asked.add(key)
        return self._left.pop(key, None)

    def text(self, key: str, choices: Iterable[str] = ()) -> str:
        value = self._typed(key, str, "a text")
        allowed = list(choices)
        if value and allowed and value not in allowed:
            self.notes.refuse(self.at(key), f"'{value[:80]}' is none of {', '.join(allowed)}")
            return ""
        return value or ""

    def integer(self, key: str) -> int | None:
        value: int | None = self._typed(key, int, "a whole number")
        if isinstance(value, bool):
            self.notes.refuse(self.at(key), "must be a whole number")
            return None
        return value

    def boolean(self, key: str) -> bool:
        return bool(self._typed(key, bool, "true or false"))

    def block(self, key: str) -> "Block":
        """The object there; an empty one when there is none."""
        return Block(self.raw(key), self.at(key), self.notes)

    def blocks(self, key: str) -> list["Block"]:
        return [Block(item, f"{self.at(key)}[{place}]", self.notes) for place, item in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        return self._typed(key, list, "a list") or []

    def texts(self, key: str) -> list[str]:
        values = self.items(key)
        if any(not isinstance(value, str) for value in values):
            self.notes.refuse(self.at(key), "must be a list of texts")
            return []
        return values

    def mapping(self, key: str) -> dict[str, str]:
        value = self._typed(key, dict, "an object") or {}
        if any(not isinstance(item, str) for item in value.values()):
            self.notes.refuse(self.at(key), "must be an object of texts")
            return {}
        return value

    def unused(self, why: str, *keys: str) -> None:
        """Name those of these fields that are there as not used."""
        for key in keys:
            if self.raw(key) is not None:
                self.notes.warn(self.at(key), f"not used: {why}")

    def refused(self, why: str, *keys: str, hint: str = "") -> None:
        """Refuse those of these fields that are there."""
        for key in keys:
            if self.raw(key) is not None:
                self.notes.refuse(self.at(key), why, hint)

    def end(self) -> None:
        """Refuse every field that nobody asked for, with the nearest one that is known."""
        for key in self._left:
            meant = nearest(key, sorted(self._asked))
            near = f"; did you mean '{meant}'?" if meant else ""
            self.notes.refuse(self.at(key), f"there is no field '{key[:80]}'{near}")

    def _typed(self, key: str, kind: type, words: str) -> Any:
        value = self.raw(key)
        if value is not None and not isinstance(value, kind):
            self.notes.refuse(self.at(key), f"must be {words}")
            return None
        return value


SERVER_SET = (
    "uid",
    "resourceVersion",
    "selfLink",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "clusterName",
    "managedFields",
    "ownerReferences",
    "finalizers",
)


def metadata(document: Json, project: str, notes: Notes) -> tuple[Json, dict[str, str]]:
    """`meta` of ours and the annotations. What a server sets is dropped with one notice; a `generateName` gets its ending."""
    block = Block(document.get("metadata"), "metadata", notes)
    dropped = [key for key in SERVER_SET if block.raw(key) is not None]
    if document.get("status") is not None:
        dropped.append("status")
    if dropped:
        notes.warn("metadata", f"dropped what a server sets: {', '.join(dropped)}")
    name, stem = block.text("name"), block.text("generateName")
    if not name and stem:
        name = stem + ending()
    if not name:
        notes.refuse("metadata.name", "is missing")
    annotations = block.mapping("annotations")
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    meta: Json = {"name": name, "project": block.text("namespace") or project}
    labels = block.mapping("labels")
    if labels:
        meta["labels"] = labels
    block.end()
    notes.places |= {
        "meta.name": "metadata.name",
        "meta.project": "metadata.namespace",
        "meta.labels": "metadata.labels",
    }
    return meta, annotations


_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def ending() -> str:
    """Five letters that spell no word, for generated names."""
    import secrets

    return "".join(secrets.choice(_LETTERS) for _ in range(5))
