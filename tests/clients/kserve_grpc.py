"""KServe's gRPC client against the address given: prints `passed`."""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


def request(model: str, array: np.ndarray, datatype: str, binary: bool) -> InferRequest:
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], request_id="7", parameters={"priority": 1, "name": "n", "flag": True})


async def main(address: str) -> None:
    client = InferenceGRPCClient(address)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("identity_fp32")
    assert not await client.is_model_ready("loading")
    for datatype, kind in (("FP32", np.float32), ("INT64", np.int64), ("BOOL", np.bool_), ("FP64", np.float64)):
        array = np.array([[1, 0, 1], [0, 0, 1]], kind)
        for binary in (False, True):
            answer = await client.infer(request(f"identity_{datatype.lower()}", array, datatype, binary))
            assert (answer.id, answer.model_name) == ("7", f"identity_{datatype.lower()}")
            assert answer.outputs[0].as_numpy().tolist() == array.tolist(), (datatype, binary)
            assert answer.outputs[0].datatype == datatype
    half = np.array([[0.5, 2.0]], np.float16)
    answer = await client.infer(request("identity_fp16", half, "FP16", True))
    assert answer.outputs[0].as_numpy().tolist() == half.tolist()
    words = np.array([[b"muon", "\N{GREEK SMALL LETTER TAU}".encode()]], object)
    for binary in (False, True):
        answer = await client.infer(request("identity_bytes", words, "BYTES", binary))
        assert answer.outputs[0].as_numpy().tolist() == words.tolist(), binary
    for model, code in (("nobody", grpc.StatusCode.NOT_FOUND), ("loading", grpc.StatusCode.UNAVAILABLE)):
        found = None
        try:
            await client.infer(request(model, half, "FP16", True), timeout=5)
        except grpc.RpcError as error:
            found = error.code()
        assert found is code, (model, found)
    await client.close()


asyncio.run(main(sys.argv[1]))
print("passed")
