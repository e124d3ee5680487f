"""From a deployment to a predictor that answers. The seam between the repository and formats, compile and workers."""

from typing import Protocol

from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.table import Deployment


class Loader(Protocol):
    """Loads deployments. `load` may take seconds and does not block the loop."""

    async def load(self, deployment: Deployment) -> Predictor:
        """A predictor that is ready to answer. Raises Invalid (the model is at fault; its message is for its owner) or
        Unavailable."""
        ...
