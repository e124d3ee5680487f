"""Triton's shared memory, trace and log extensions over gRPC: what the REST routes do, on the protocol's messages.

System shared memory is served on loopback; CUDA's is not. Settings can be read; changing them is refused.
"""

from typing import Any

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.errors import Unsupplied
from mlaas.modelserver.grpc.call import Call, Method
from mlaas.modelserver.grpc.messages import INFERENCE, message
from mlaas.modelserver.grpc.unary import unary
from mlaas.modelserver.http.settings import LOG, TRACE, refuse_changes
from mlaas.modelserver.regions import Register, client_user


class Extensions:
    """All methods by path in `methods`."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self.methods: dict[str, Method] = {
            f"/{INFERENCE}/{name}": Method(unary=unary(f"{name}Request", answer))
            for name, answer in (
                ("SystemSharedMemoryStatus", self._status),
                ("SystemSharedMemoryRegister", self._register),
                ("SystemSharedMemoryUnregister", self._unregister),
                ("CudaSharedMemoryStatus", self._cuda_status),
                ("CudaSharedMemoryRegister", self._cuda_register),
                ("CudaSharedMemoryUnregister", self._cuda_unregister),
                ("TraceSetting", self._trace),
                ("LogSettings", self._log),
            )
        }

    # -- shared memory ----------------------------------------------------------------------------------------------

    def _status(self, request: Any, call: Call) -> Any:
        answer = message("SystemSharedMemoryStatusResponse")()
        for each in self._dispatch.regions.status(request.name):
            region = answer.regions[each["name"]]
            region.name, region.key = each["name"], each["key"]
            region.offset, region.byte_size = each["offset"], each["byte_size"]
        return answer

    def _register(self, request: Any, call: Call) -> Any:
        if not request.name:
            raise Invalid("A region needs a name.", field="name")
        order = Register(request.key, request.byte_size, request.offset)
        self._dispatch.regions.register(request.name, order, client_user(*call.peer))
        return message("SystemSharedMemoryRegisterResponse")()

    def _unregister(self, request: Any, call: Call) -> Any:
        self._dispatch.regions.unregister(request.name)
        return message("SystemSharedMemoryUnregisterResponse")()

    def _cuda_status(self, request: Any, call: Call) -> Any:
        if request.name:
            raise NotFound(f"There is no CUDA shared memory region '{request.name}'.")
        return message("CudaSharedMemoryStatusResponse")()

    def _cuda_register(self, request: Any, call: Call) -> Any:
        raise Unsupplied("CUDA shared memory is not served.", hint="Use system shared memory, or send binary tensors.")

    def _cuda_unregister(self, request: Any, call: Call) -> Any:
        return message("CudaSharedMemoryUnregisterResponse")()

    # -- settings ---------------------------------------------------------------------------------------------------

    def _trace(self, request: Any, call: Call) -> Any:
        if request.model_name:
            project = self._dispatch.project(call.digest, header=call.project, host=call.authority)
            self._dispatch.find(project, request.model_name, call.digest)
        # A setting is a list of texts; one without any is to be cleared, that is, as the server was started.
        current = {name: value if isinstance(value, list) else [value] for name, value in TRACE.items()}
        refuse_changes({name: list(each.value) or None for name, each in request.settings.items()}, current)
        answer = message("TraceSettingResponse")()
        for name, texts in current.items():
            answer.settings[name].value.extend(texts)
        return answer

    def _log(self, request: Any, call: Call) -> Any:
        wanted = {}
        for name, each in request.settings.items():
            choice = each.WhichOneof("parameter_choice")
            wanted[name] = getattr(each, choice) if choice else None
        refuse_changes(wanted, LOG)
        answer = message("LogSettingsResponse")()
        for name, value in LOG.items():
            setting = answer.settings[name]
            if isinstance(value, bool):
                setting.bool_param = value
            elif isinstance(value, int):
                setting.uint32_param = value
            else:
                setting.string_param = value
        return answer
