"""The message classes are read from the `.proto` files as protoc reads them, and fit the clients' own modules."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from tritonclient.grpc import model_config_pb2, service_pb2

import mlaas.modelserver.grpc as package
from mlaas.modelserver.grpc.messages import file_descriptors, message
from mlaas.modelserver.grpc.schema import read

FOLDER = Path(package.__path__[0])


def _plain(file):
    """Without what protoc adds for other languages: JSON names, empty options of methods."""

    def clear(made):
        for field in made.field:
            field.ClearField("json_name")
        for nested in made.nested_type:
            clear(nested)

    for made in file.message_type:
        clear(made)
    for service in file.service:
        for method in service.method:
            method.ClearField("options")
    return file


@pytest.mark.parametrize("name", ["inference.proto", "health.proto", "reflection.proto"])
def test_reads_what_protoc_reads(name, tmp_path):
    target = tmp_path / "set"
    assert protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={target}", str(FOLDER / name)]) == 0
    expected = FileDescriptorSet.FromString(target.read_bytes()).file[0]
    assert file_descriptors()[name] == _plain(expected)


def _fields(message_type, prefix=""):
    for field in message_type.field:
        yield f"{prefix}{message_type.name}.{field.name}", (field.number, field.type, field.label, field.type_name)
    for nested in message_type.nested_type:
        yield from _fields(nested, f"{prefix}{message_type.name}.")


def test_every_field_is_the_clients_field():
    theirs = {}
    for module in (service_pb2, model_config_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message_type in file.message_type:
            theirs.update(_fields(message_type))
    file = file_descriptors()["inference.proto"]
    ours = {name: field for message_type in file.message_type for name, field in _fields(message_type)}
    extra = {name for name in ours if name not in theirs}
    # Triton's own modules lack the map of the Open Inference Protocol.
    assert {name for name in extra if "roperties" not in name} == set()
    assert {name: field for name, field in ours.items() if name not in extra and theirs[name] != field} == {}
    missing = {name for name in theirs if name not in ours and name.split(".")[0] not in CONFIGURATION}
    assert missing == set()


CONFIGURATION = set(model_config_pb2.DESCRIPTOR.message_types_by_name)


def test_every_method_is_the_clients_method():
    theirs = FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(theirs)
    ours = file_descriptors()["inference.proto"]
    assert list(ours.service[0].method) == list(_plain(theirs).service[0].method)


def test_bytes_of_a_client_are_read():
    sent = service_pb2.ModelInferRequest(model_name="m", id="7")
    sent.parameters["priority"].uint64_param = 1 << 63
    sent.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2.5])
    found = message("ModelInferRequest").FromString(sent.SerializeToString())
    assert found.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)
    assert list(found.inputs[0].contents.fp32_contents) == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import 'x';", "unexpected"),
        ('syntax = "proto3"; package p; message A { B b = 1; }', "no type 'B'"),
        ('syntax = "proto3"; package p; message A { string b 1; }', "expected '='"),
    ],
)
def test_what_is_outside_of_the_subset_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read(text, "x.proto")
