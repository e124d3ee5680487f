"""The service: a name that answers inference requests.

Writers of a service's status: its reconciler alone; `stable` and `revisions` are what it remembers of earlier predictors, and
`aborted` what the model server said of canaries.
"""

from mlaas.kernel.resource import Kind
from mlaas.kinds.service.admit import admit_create
from mlaas.kinds.service.schema import ServiceSpec

FINALIZER = "service/serving"

KIND = Kind(
    name="service",
    plural="services",
    spec_type=ServiceSpec,
    finalizers=(FINALIZER,),
    columns=(
        ("PHASE", "status.phase"),
        ("MODEL", "spec.predictor.model"),
        ("REVISION", "status.revision"),
        ("URL", "status.url"),
    ),
    description="A name that answers inference requests: a model, with canary, scaling, transformer; or a graph of services.",
    validate=admit_create,
)
