"""gRPC health over real gRPC: services, Check, Watch, List."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmroute.host.health import HealthServer

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
READINESS = ["", SERVICE, "readiness", "inference-extension"]
SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


@pytest.fixture
async def server():
    server = HealthServer()
    await server.start("127.0.0.1:0")
    yield server
    await server.stop()


@pytest.fixture
async def stub(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def check(stub, service):
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)).status


@pytest.mark.parametrize("service", READINESS)
async def test_readiness_follows_the_picker(server, stub, service):
    assert await check(stub, service) == NOT_SERVING
    await server.set_ready(ready=True)
    assert await check(stub, service) == SERVING
    await server.set_ready(ready=False)
    assert await check(stub, service) == NOT_SERVING


async def test_liveness_never_depends_on_readiness(server, stub):
    for ready in (False, True, False):
        await server.set_ready(ready=ready)
        assert await check(stub, "liveness") == SERVING


async def test_unknown_service_is_not_found(stub):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(stub, "somebody-else")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_each_change(server, stub):
    call = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=20)
    assert (await call.read()).status == NOT_SERVING
    await server.set_ready(ready=True)
    assert (await call.read()).status == SERVING
    await server.set_ready(ready=False)
    assert (await call.read()).status == NOT_SERVING
    call.cancel()


async def test_watch_of_an_unknown_service_says_so_and_stays_open(stub):
    call = stub.Watch(health_pb2.HealthCheckRequest(service="somebody-else"), timeout=20)
    assert (await call.read()).status == SERVICE_UNKNOWN
    assert not call.done()
    call.cancel()


async def test_list_names_every_service(server, stub):
    await server.set_ready(ready=True)
    answer = await stub.List(health_pb2.HealthListRequest(), timeout=10)
    assert {name: status.status for name, status in answer.statuses.items()} == dict.fromkeys([*READINESS, "liveness"], SERVING)


def test_running_picker_is_ready_on_its_health_port(start_picker, host):
    picker = start_picker(f"--host={host}")
    with grpc.insecure_channel(picker.health) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in [*READINESS, "liveness"]:
            assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status == SERVING


def test_health_checking_serves_health_on_the_ext_proc_port(start_picker):
    picker = start_picker("--host=grpcio", "--health-checking")
    with grpc.insecure_channel(picker.grpc) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=10).status == SERVING


def test_without_health_checking_the_ext_proc_port_has_no_health(start_picker, host):
    picker = start_picker(f"--host={host}")
    with grpc.insecure_channel(picker.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
