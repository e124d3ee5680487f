"""Server reflection: tools such as grpcurl ask for the descriptors of what they call."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from mlaas.modelserver.grpc.call import Call, Method, Streaming
from mlaas.modelserver.grpc.codec import Buffer, Parts
from mlaas.modelserver.grpc.messages import REFLECTION, REFLECTION_ALPHA, SERVICES, file_descriptors, message, pool
from mlaas.modelserver.grpc.status import Code
from mlaas.modelserver.grpc.unary import parse


class Reflection:
    """Both versions of the protocol."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}  # serialised on first use
        self.methods = {
            f"/{name}/ServerReflectionInfo": Method(streaming=self._method(name.rpartition(".")[0]))
            for name in (REFLECTION, REFLECTION_ALPHA)
        }

    def _method(self, package: str) -> Streaming:
        request_type, response_type = (message(f"{package}.ServerReflection{side}") for side in ("Request", "Response"))

        async def answer(messages: AsyncIterator[Buffer], call: Call) -> AsyncGenerator[Parts, None]:
            async for payload in messages:
                request = parse(request_type, payload)
                response = response_type(valid_host=request.host, original_request=request)
                self._fill(request, response)
                yield [response.SerializeToString()]

        return answer

    def _fill(self, request: Any, response: Any) -> None:
        asked = request.WhichOneof("message_request")
        try:
            if asked == "list_services":
                for name in SERVICES:
                    response.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                response.file_descriptor_response.file_descriptor_proto.append(self._file(request.file_by_filename))
            elif asked == "file_containing_symbol":
                name = pool().FindFileContainingSymbol(request.file_containing_symbol).name
                response.file_descriptor_response.file_descriptor_proto.append(self._file(name))
            elif asked == "all_extension_numbers_of_type":
                pool().FindMessageTypeByName(request.all_extension_numbers_of_type)
                response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            else:
                raise KeyError(asked)  # none of our messages has extensions
        except KeyError:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = "There is no such symbol or file here."

    def _file(self, name: str) -> bytes:
        if not self._files:
            self._files = {found: file.SerializeToString() for found, file in file_descriptors().items()}
        return self._files[name]
