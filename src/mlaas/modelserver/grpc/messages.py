"""The protocols' message classes, made from the `.proto` files beside this module.

They live in a descriptor pool of their own, so that a client library with modules for the same package can be imported into the
same process.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from mlaas.modelserver.grpc.schema import read

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_ALPHA = "grpc.reflection.v1alpha.ServerReflection"
SERVICES = (INFERENCE, HEALTH, REFLECTION, REFLECTION_ALPHA)


def file_descriptors() -> dict[str, FileDescriptorProto]:
    """The four files by name."""
    texts = {name: (files(__package__) / name).read_text("utf-8") for name in ("inference.proto", "health.proto")}
    reflection = (files(__package__) / "reflection.proto").read_text("utf-8")
    texts["reflection.proto"] = reflection
    texts["reflection_v1alpha.proto"] = reflection.replace(
        "package grpc.reflection.v1;", "package grpc.reflection.v1alpha;"
    )
    return {name: read(text, name) for name, text in texts.items()}


@cache
def pool() -> DescriptorPool:
    """The pool that all of this package's messages are in."""
    made = DescriptorPool()
    for file in file_descriptors().values():
        made.Add(file)
    return made


@cache
def message(name: str) -> Any:
    """A message class by its full name, or by its name in the package `inference`."""
    full = name if "." in name else f"inference.{name}"
    return GetMessageClass(pool().FindMessageTypeByName(full))
