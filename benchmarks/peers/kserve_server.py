"""KServe's Python server with one scikit-learn model, as its sklearnserver does it (python/sklearnserver/model.py)."""

import os

import joblib
import numpy as np
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer


class Sklearn(Model):
    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._model = joblib.load(path)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            given: InferInput = payload.inputs[0]
            values = self._model.predict(given.as_numpy())
            output = InferOutput("output-0", list(values.shape), "INT64")
            output.set_data_from_numpy(values.astype(np.int64), binary_data=False)
            return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])
        return {"predictions": self._model.predict(np.array(payload["instances"])).tolist()}


if __name__ == "__main__":
    # kserve parses --http_port and --grpc_port itself, when it is imported; the models come by the environment.
    models = [Sklearn(*each.split("=", 1)) for each in os.environ["MODELS"].split()]
    ModelServer(workers=1, enable_docs_url=False).start(models)
