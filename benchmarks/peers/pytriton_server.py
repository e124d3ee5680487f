"""Triton through pytriton, with dynamic batching, serving scikit-learn models.

MODELS="NAME=FILE ..." python pytriton_server.py --http_port PORT --grpc_port PORT
"""

import argparse
import os

import joblib
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def callable_of(path: str):
    """(the function that pytriton calls with a batch, the number of columns)"""
    model = joblib.load(path)

    @batch
    def infer(x):
        return [model.predict(x).astype(np.int64)[:, None]]

    return infer, model.n_features_in_


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--http_port", type=int)
    parser.add_argument("--grpc_port", type=int)
    options = parser.parse_args()
    config = TritonConfig(http_port=options.http_port, grpc_port=options.grpc_port, allow_metrics=False, log_verbose=0)
    with Triton(config=config) as triton:
        for each in os.environ["MODELS"].split():
            name, path = each.split("=", 1)
            function, width = callable_of(path)
            triton.bind(
                model_name=name,
                infer_func=function,
                inputs=[Tensor(name="x", dtype=np.float32, shape=(width,))],
                outputs=[Tensor(name="y", dtype=np.int64, shape=(1,))],
                config=ModelConfig(max_batch_size=16384, batcher=DynamicBatcher(max_queue_delay_microseconds=100)),
            )
        triton.serve()
