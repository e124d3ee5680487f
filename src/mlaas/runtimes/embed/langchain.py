"""The documents of a LangChain FAISS folder (`index.faiss` and `index.pkl`), read without unpickling.

`index.pkl` is a pickle of `(docstore, {position: document id})`. A pickle is a program for a stack machine that may import
and call anything; this reader runs the few operations that build plain values, admits the document-store classes by name
and as inert records, and refuses every other import and every call. No class is imported, no function is looked up.
Operations: the comments of CPython's `pickletools`.
"""

import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid

DOCSTORES = {
    ("langchain_community.docstore.in_memory", "InMemoryDocstore"),
    ("langchain.docstore.in_memory", "InMemoryDocstore"),
}
DOCUMENTS = {
    ("langchain_core.documents.base", "Document"),
    ("langchain.schema.document", "Document"),
    ("langchain.schema", "Document"),
    ("langchain.docstore.document", "Document"),
}
_SETS = {("builtins", "set"), ("__builtin__", "set")}  # how protocols below 4 write a set
_NODES = 100_000  # values in one document's metadata


class Refused(Exception):
    """The pickle does something that a document store does not need."""


@dataclass(frozen=True)
class _Class:
    name: tuple[str, str]


@dataclass
class _Record:
    """What stands for an instance: its class and its state."""

    of: _Class
    state: dict[Any, Any] = field(default_factory=dict)


_MARK = object()
_PLAIN = {
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read(path: Path, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """(contents, metadata) of the documents in the order of the index's vectors, `count` of them.

    Raises Invalid, saying what was found, when the file holds anything but a document store.
    """
    hint = "Only folders written by LangChain's FAISS.save_local with plain metadata are read; build the store anew otherwise."
    try:
        value = _run(path.read_bytes())
        store, positions = value
        return _documents(store, positions, count)
    except Refused as error:
        raise Invalid(f"{path.name} is refused: it {error}.", field="dataset.path", hint=hint) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, UnicodeError) as error:
        raise Invalid(f"{path.name} holds no document store: {error}.", field="dataset.path", hint=hint) from error


def _documents(store: Any, positions: Any, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    if not isinstance(store, _Record) or store.of.name not in DOCSTORES:
        raise ValueError("its first part is no document store")
    documents = store.state["_dict"]
    if not isinstance(documents, dict) or not isinstance(positions, dict) or len(positions) != count:
        raise ValueError(f"it does not list {count} documents, one for each vector")
    contents, metadata = [], []
    for position in range(count):
        document = documents[positions[position]]
        if not isinstance(document, _Record) or document.of.name not in DOCUMENTS:
            raise ValueError(f"entry {position} is no document")
        # pydantic 1 and 2 both keep the fields under __dict__; a dataclass has them directly.
        fields = document.state.get("__dict__", document.state)
        content = fields["page_content"]
        if not isinstance(content, str):
            raise ValueError(f"the content of document {position} is no text")
        contents.append(content)
        metadata.append(_plain(fields.get("metadata") or {}, [_NODES]))
    return contents, metadata


def _plain(value: Any, budget: list[int]) -> Any:
    """A copy that JSON can hold; bounded, as shared parts of a pickle may unfold without end."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError("a document's metadata is too large")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, budget) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, budget) for item in value]
    raise ValueError(f"a document's metadata holds a {type(value).__name__}")


def _run(data: bytes) -> Any:
    """The value that the pickle builds."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _PLAIN:
            stack.append(_CONSTANTS.get(name, argument))
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            size = _TUPLES[name]
            stack[-size:] = [tuple(stack[-size:])]
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            _build(name, argument, stack)
    raise ValueError("it ends early")


def _build(name: str, argument: Any, stack: list[Any]) -> None:
    """The operations that fill containers and records."""
    if name == "TUPLE":
        stack.append(tuple(_marked(stack)))
    elif name == "LIST":
        stack.append(_marked(stack))
    elif name == "DICT":
        items = _marked(stack)
        stack.append(dict(zip(items[::2], items[1::2], strict=True)))
    elif name == "FROZENSET":
        stack.append(frozenset(_marked(stack)))
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _a(dict, stack[-1])[key] = value
    elif name == "SETITEMS":
        items = _marked(stack)
        _a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
    elif name == "APPEND":
        value = stack.pop()
        _a(list, stack[-1]).append(value)
    elif name == "APPENDS":
        items = _marked(stack)
        _a(list, stack[-1]).extend(items)
    elif name == "ADDITEMS":
        items = _marked(stack)
        _a(set, stack[-1]).update(items)
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_admitted((str(module), str(attribute))))
    elif name == "GLOBAL":
        module, _, attribute = str(argument).partition(" ")
        stack.append(_admitted((module, attribute)))
    elif name == "NEWOBJ":
        arguments, cls = stack.pop(), stack.pop()
        stack.append(_instance(cls, arguments))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        if not isinstance(called, _Class) or called.name not in _SETS:
            raise Refused("calls a function")
        stack.append(set(*_a(tuple, arguments)))
    elif name == "BUILD":
        state = stack.pop()
        _a(_Record, stack[-1]).state = _a(dict, state)
    else:
        raise Refused(f"uses the operation {name}")


def _marked(stack: list[Any]) -> list[Any]:
    """Pop what lies above the topmost mark, and the mark."""
    for i in range(len(stack) - 1, -1, -1):
        if stack[i] is _MARK:
            items = stack[i + 1 :]
            del stack[i:]
            return items
    raise ValueError("a mark is missing")


def _admitted(name: tuple[str, str]) -> _Class:
    if name not in DOCSTORES and name not in DOCUMENTS and name not in _SETS:
        raise Refused(f"imports {name[0]}.{name[1]}, which is no document-store class")
    return _Class(name)


def _instance(cls: Any, arguments: Any) -> _Record:
    if not isinstance(cls, _Class) or cls.name in _SETS or arguments != ():
        raise Refused("makes an object other than a document")
    return _Record(cls)


def _a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__.strip('_').lower()} is expected where a {type(value).__name__} stands")
    return value
