"""A picker in this process, each host over real gRPC, with the pods and the metrics that a case asks for."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_tools import protoc

from hosts import Grpcio, Native
from policies import policy
from warmroute import _core

PROTOS = Path(__file__).parents[2] / "protos"
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


@pytest.fixture(scope="session")
def pb(tmp_path_factory) -> ModuleType:
    """Generated code of protos/ext_proc.proto: independent of the engine's own codec."""
    out = tmp_path_factory.mktemp("protos")
    status = protoc.main(
        ["protoc", f"-I{PROTOS}", f"-I{Path(protoc.__file__).parent / '_proto'}", f"--python_out={out}", str(PROTOS / "ext_proc.proto")]
    )
    assert status == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("ext_proc_pb2")


# "Large enough not to matter" (§11.1) means that no case turns on it, but it does: with room for more adapters than are active, case 3 is a tie.
# Two is the capacity at which all cases come out as told.
MAX_ADAPTERS = 2


def metrics_page(waiting: float, kv_usage: float, adapters: tuple[str, ...]) -> bytes:
    return (
        f'vllm:num_requests_waiting{{engine="0"}} {waiting}\n'
        f'vllm:kv_cache_usage_perc{{engine="0"}} {kv_usage}\n'
        f'vllm:lora_requests_info{{max_lora="{MAX_ADAPTERS}",running_lora_adapters="{",".join(adapters)}",waiting_lora_adapters=""}} 1.0\n'
    ).encode()


class Picker:
    """A running picker and its generated client."""

    def __init__(self, host: type, pb: ModuleType, settings: dict[str, Any], plugins: str | None = None) -> None:
        self.pb = pb
        self.engine = _core.Engine(json.dumps(settings), plugins or policy())
        self.host = host(self.engine)
        self.channel = grpc.insecure_channel(self.host.address)
        self.process = self.channel.stream_stream(
            METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )

    def pod(self, index: int, waiting: float = 0, kv_usage: float = 0, *adapters: str) -> None:
        """P(index, queue, kv usage, active adapters) of the reference's suite: IP 192.168.1.(index + 1), port 8000."""
        self.engine.upsert_endpoint("default", f"pod-{index}", f"192.168.1.{index + 1}", 8000, {})
        self.engine.feed_metrics("default", f"pod-{index}", metrics_page(waiting, kv_usage, adapters))

    def exchange(self, *messages: Any) -> list[Any]:
        """Sends the messages, half-closes, returns all replies."""
        return list(self.process(iter(messages), timeout=10))

    def families(self) -> dict[str, dict[str, Any]]:
        return {family["name"]: family for family in self.engine.stats()}

    def counter(self, name: str, **labels: str) -> float:
        family = self.families()[name]
        wanted = [labels.get(label) for label in family["label_names"]]
        total = 0.0
        for values, value, *_ in family["samples"]:
            if all(want in (None, value_) for want, value_ in zip(wanted, values, strict=True)):
                total += value
        return total

    def close(self) -> None:
        self.channel.close()
        self.host.stop()


@pytest.fixture(params=[Native, Grpcio], ids=["native", "grpcio"])
def start(request, pb) -> Iterator[Callable[..., Picker]]:
    pickers: list[Picker] = []

    def start_picker(plugins: str | None = None, **settings: Any) -> Picker:
        pickers.append(Picker(request.param, pb, settings, plugins))
        return pickers[-1]

    yield start_picker
    for picker in pickers:
        picker.close()


@pytest.fixture
def picker(start) -> Picker:
    return start()
