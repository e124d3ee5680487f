"""KServe's Python server with scikit-learn models, as its sklearnserver does it (python/sklearnserver/sklearnserver/model.py).

MODELS="NAME=FILE ..." python kserve_server.py --http_port PORT --grpc_port PORT
"""

import os

import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Sklearn(Model):
    """One model, from a joblib file."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._model = joblib.load(path)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        return get_predict_response(payload, self._model.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    # kserve parses --http_port and --grpc_port itself, when it is imported.
    models = [Sklearn(*each.split("=", 1)) for each in os.environ["MODELS"].split()]
    ModelServer(workers=1, enable_docs_url=False).start(models)
