"""The floor of the benchmarks: an echo that names destinations in turn and decides nothing."""

import grpc

from warmroute import _core

from .conftest import METHOD
from .messages import headers
from .test_requests import set_headers


def test_destinations_are_named_in_turn(pb):
    named = ["10.0.0.1:8000", "10.0.0.2:8000"]
    server = _core.NativeServer(None, "127.0.0.1:0", threads=1, echo_destinations=named)
    with grpc.insecure_channel(server.address) as channel:
        process = channel.stream_stream(
            METHOD, request_serializer=pb.ProcessingRequest.SerializeToString, response_deserializer=pb.ProcessingResponse.FromString
        )
        replies = [next(iter(process(iter([headers(pb, end_of_stream=True)]), timeout=10))) for _ in range(4)]
    server.stop(0)
    assert [set_headers(reply.request_headers)["x-gateway-destination-endpoint"] for reply in replies] == named * 2
    metadata = [reply.dynamic_metadata.fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value for reply in replies]
    assert metadata == named * 2
