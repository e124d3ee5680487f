"""KServe's REST client against the base URL given, with V1 and V2: prints `passed`."""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


async def version_1(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await client.is_server_live(url)
    assert await client.is_model_ready(url, "identity_fp32")
    answer = await client.infer(url, {"instances": [[1.5, 2.0], [3.0, 4.0]]}, "identity_fp32")
    assert answer == {"predictions": [[1.5, 2.0], [3.0, 4.0]]}, answer
    await client.close()


async def version_2(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "identity_fp32")
    assert not await client.is_model_ready(url, "loading")
    array = np.array([[1.5, 2.0], [3.0, 4.0]], np.float32)
    for binary in (False, True):
        tensor = InferInput("x", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array, binary_data=binary)
        answer = await client.infer(url, InferRequest("identity_fp32", [tensor], request_id="7"), "identity_fp32")
        assert answer.id == "7"
        assert answer.outputs[0].as_numpy().tolist() == array.tolist(), binary
    await client.close()


asyncio.run(version_1(sys.argv[1]))
asyncio.run(version_2(sys.argv[1]))
print("passed")
