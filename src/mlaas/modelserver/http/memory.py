"""Routes of the shared memory extensions. System shared memory is served on loopback; CUDA's is not."""

import msgspec

from mlaas.kernel.errors import Invalid, Malformed, NotFound
from mlaas.modelserver.errors import Unsupplied
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import json_reply
from mlaas.modelserver.regions import Register, client_user


def status(call: Call) -> Answer:
    return json_reply(call.api.dispatch.regions.status(call.target.extra))


def register(call: Call) -> Answer:
    try:
        order = msgspec.json.decode(call.request.body or b"null", type=Register)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The body registers no region: {error}.", hint='Expected {"key", "offset", "byte_size"}.'
        ) from None
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    call.api.dispatch.regions.register(call.target.extra, order, client_user(call.request.peer, call.request.peer_port))
    return json_reply({"name": call.target.extra, "register": True})


def unregister(call: Call) -> Answer:
    call.api.dispatch.regions.unregister(call.target.extra)
    return json_reply({"unregister": True})


def cuda_status(call: Call) -> Answer:
    """Triton's clients ask for it in passing; there is never a region."""
    if call.target.extra:
        raise NotFound(f"There is no CUDA shared memory region '{call.target.extra}'.")
    return json_reply([])


def cuda_register(call: Call) -> Answer:
    raise Unsupplied("CUDA shared memory is not served.", hint="Use system shared memory, or send binary tensors.")


def cuda_unregister(call: Call) -> Answer:
    return json_reply({"unregister": True})
