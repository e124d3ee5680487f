"""The methods themselves, on grpcio's server: what they say does not depend on our transport."""

import numpy as np
import tritonclient.grpc.aio as tritonclient
from tests.integration.modelserver.grpc import aio, models

from mlaas.modelserver.grpc.service import InferenceService


async def test_the_methods_answer_a_client_on_grpcios_server():
    server, port = await aio.serve(InferenceService(models.served()).methods)
    try:
        async with tritonclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert await client.is_server_live()
            metadata = await client.get_model_metadata("simple")
            assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs] == [
                ("INPUT0", "INT32", [-1, 16]),
                ("INPUT1", "INT32", [-1, 16]),
            ]
            left = np.arange(16, dtype=np.int32).reshape(1, 16)
            inputs = [tritonclient.InferInput(name, [1, 16], "INT32") for name in models.PAIR]
            inputs[0].set_data_from_numpy(left)
            inputs[1].set_data_from_numpy(np.ones((1, 16), np.int32))
            result = await client.infer("simple", inputs, request_id="7")
            assert result.as_numpy("OUTPUT0").tolist() == (left + 1).tolist()
            assert result.as_numpy("OUTPUT1").tolist() == (left - 1).tolist()
            assert result.get_response().id == "7"
    finally:
        await server.stop(None)
