"""Read a `.proto` file into protobuf's message classes when the server starts: no generated module, nothing to build.

The reader takes the part of proto3 that the protocols of this package are written in: messages and enums (nested too), oneof,
map, repeated, services. A test compares what it makes with protoc's descriptors.
"""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

_TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[A-Za-z_][\w.]*|\d+|[{}()<>=;,]|(\S)')
_SCALARS = {
    word: getattr(FieldDescriptorProto, f"TYPE_{word.upper()}")
    for word in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def read(text: str, name: str) -> FileDescriptorProto:
    """The descriptor of one file. Raises ValueError at what is not of the subset."""
    return _Reader(text, name).file


class _Reader:
    """Recursive descent over the tokens; type names are resolved at the end, when all of them are known."""

    def __init__(self, text: str, name: str) -> None:
        self._tokens = self._split(text)
        self._next = next(self._tokens, "")
        self.file = FileDescriptorProto(name=name)
        self._named: list[tuple[FieldDescriptorProto, str]] = []
        self._kinds: dict[str, int] = {}  # full name -> TYPE_MESSAGE | TYPE_ENUM
        while self._next:
            self._statement()
        for field, scope in self._named:
            field.type_name, field.type = self._resolve(field.type_name, scope)

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        for match in _TOKEN.finditer(text):
            if match[1]:
                raise ValueError(f"unexpected {match[1]!r}")
            if not match[0].startswith("//"):
                yield match[0]

    def _take(self, expected: str = "") -> str:
        token, self._next = self._next, next(self._tokens, "")
        if expected and token != expected:
            raise ValueError(f"expected {expected!r}, found {token!r}")
        return token

    def _accept(self, token: str) -> bool:
        if self._next != token:
            return False
        self._take()
        return True

    def _statement(self) -> None:
        match self._take():
            case "syntax":
                self._take("=")
                self.file.syntax = self._take().strip('"')
                self._take(";")
            case "package":
                self.file.package = self._take()
                self._take(";")
            case "message":
                self._message(self.file.message_type.add(), f".{self.file.package}")
            case "enum":
                self._enum(self.file.enum_type.add(), f".{self.file.package}")
            case "service":
                self._service(self.file.service.add())
            case token:
                raise ValueError(f"unexpected {token!r}")

    def _message(self, message: DescriptorProto, scope: str) -> None:
        message.name = self._take()
        scope = f"{scope}.{message.name}"
        self._kinds[scope] = FieldDescriptorProto.TYPE_MESSAGE
        self._take("{")
        while not self._accept("}"):
            if self._accept("message"):
                self._message(message.nested_type.add(), scope)
            elif self._accept("enum"):
                self._enum(message.enum_type.add(), scope)
            elif self._accept("oneof"):
                index = len(message.oneof_decl)
                message.oneof_decl.add(name=self._take())
                self._take("{")
                while not self._accept("}"):
                    self._field(message, scope).oneof_index = index
            elif self._accept("map"):
                self._map(message, scope)
            else:
                repeated = self._accept("repeated")
                field = self._field(message, scope)
                if repeated:
                    field.label = FieldDescriptorProto.LABEL_REPEATED

    def _field(self, message: DescriptorProto, scope: str) -> FieldDescriptorProto:
        field = message.field.add(label=FieldDescriptorProto.LABEL_OPTIONAL)
        self._typed(field, self._take(), scope)
        self._numbered(field)
        return field

    def _map(self, message: DescriptorProto, scope: str) -> None:
        self._take("<")
        key = self._take()
        self._take(",")
        value = self._take()
        self._take(">")
        field = message.field.add(label=FieldDescriptorProto.LABEL_REPEATED)
        self._numbered(field)
        entry = message.nested_type.add(name="".join(part.title() for part in field.name.split("_")) + "Entry")
        entry.options.map_entry = True
        for number, (name, word) in enumerate((("key", key), ("value", value)), 1):
            made = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            self._typed(made, word, scope)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{scope}.{entry.name}"

    def _typed(self, field: FieldDescriptorProto, word: str, scope: str) -> None:
        if word in _SCALARS:
            field.type = _SCALARS[word]
        else:
            field.type_name = word
            self._named.append((field, scope))

    def _numbered(self, field: FieldDescriptorProto) -> None:
        field.name = self._take()
        self._take("=")
        field.number = int(self._take())
        self._take(";")

    def _enum(self, enum: EnumDescriptorProto, scope: str) -> None:
        enum.name = self._take()
        self._kinds[f"{scope}.{enum.name}"] = FieldDescriptorProto.TYPE_ENUM
        self._take("{")
        while not self._accept("}"):
            name = self._take()
            self._take("=")
            enum.value.add(name=name, number=int(self._take()))
            self._take(";")

    def _service(self, service: ServiceDescriptorProto) -> None:
        service.name = self._take()
        self._take("{")
        while not self._accept("}"):
            self._take("rpc")
            method = service.method.add(name=self._take())
            for side, keyword in (("client", "returns"), ("server", "{")):
                self._take("(")
                streaming = self._accept("stream")
                word = f".{self.file.package}.{self._take()}"
                if side == "client":
                    method.input_type = word
                    if streaming:
                        method.client_streaming = True
                else:
                    method.output_type = word
                    if streaming:
                        method.server_streaming = True
                self._take(")")
                self._take(keyword)
            self._take("}")

    def _resolve(self, word: str, scope: str) -> tuple[str, Any]:
        """From the innermost scope outwards, as protobuf's language says."""
        while True:
            found = f"{scope}.{word}"
            if found in self._kinds:
                return found, self._kinds[found]
            if not scope:
                raise ValueError(f"there is no type {word!r}")
            scope = scope.rpartition(".")[0]
