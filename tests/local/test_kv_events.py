"""`warmroute up --kv-events`: what it asks for, the addresses that it gives, the configuration that it writes."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from warmroute.cli.app import app
from warmroute.config.read import Given, read_plan
from warmroute.discovery.endpoints import EndpointRecord
from warmroute.kv_events.configured import kv_events_settings
from warmroute.local.errors import UsageError
from warmroute.local.kv_events import NamedPublishers, SimulatedPublishers, write_configuration
from warmroute.local.ports import PortBook
from warmroute.local.settings import GatewaySettings, KvEventsOptions, PickerSettings, SimSettings

EVENTS, REPLAY = "warmroute.dev/kv-events", "warmroute.dev/kv-events-replay"
URL = "http://10.0.0.5:8000"
TEMPLATE = "tcp://{address}:5557"


def endpoint(name: str, address: str = "10.0.0.1", port: int = 8000, **labels: str) -> EndpointRecord:
    return EndpointRecord("default", name, address, port, labels)


def addresses(endpoints: tuple[EndpointRecord, ...]) -> dict[str, tuple[str | None, str | None]]:
    return {found.name: (found.labels.get(EVENTS), found.labels.get(REPLAY)) for found in endpoints}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sim": SimSettings(2), "kv_events": KvEventsOptions(TEMPLATE)}, "--sim takes no address"),
        ({"kv_events": KvEventsOptions(tokenizer=URL)}, "--kv-events needs the address.*5557"),
        ({"kv_events": KvEventsOptions("tcp://{addres}:1", tokenizer=URL)}, r"--kv-events: .*\{addres\}.*did you mean \"address\""),
        ({"kv_events": KvEventsOptions(TEMPLATE)}, "--kv-events needs --tokenizer"),
        (
            {"kv_events": KvEventsOptions(TEMPLATE, tokenizer="/no/such/model")},
            "--tokenizer /no/such/model: no such file or folder; nothing is downloaded",
        ),
        ({"kv_events": KvEventsOptions(TEMPLATE, tokenizer="ftp://a:1")}, "expected a path, or a URL"),
        ({"kv_events": KvEventsOptions(TEMPLATE, tokenizer="http://a:b")}, "expected a path, or a URL"),
    ],
)
def test_what_is_missing_is_asked_for(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        GatewaySettings(**settings).check()


def test_own_configuration_must_make_use_of_events(tmp_path: Path) -> None:
    file = tmp_path / "picker.yaml"
    file.write_text("plugins:\n- type: queue-scorer\n")
    picker = PickerSettings(config_file=file)
    with pytest.raises(UsageError, match=r"(?s)no precise-prefix-cache-producer.*Add for example:\n  plugins:"):
        GatewaySettings(sim=SimSettings(1), picker=picker, kv_events=KvEventsOptions()).check()
    with pytest.raises(UsageError, match="only one of --tokenizer and --config-file"):
        GatewaySettings(sim=SimSettings(1), picker=picker, kv_events=KvEventsOptions(tokenizer=URL)).check()
    file.write_text("plugins:\n- type: precise-prefix-cache-producer\n")
    GatewaySettings(sim=SimSettings(1), picker=picker, kv_events=KvEventsOptions()).check()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sim", "2", "--tokenizer", "x"], "need --kv-events"),
        (["--endpoint", URL, "--kv-events"], "--kv-events needs the address"),
        (["--endpoint", URL, "--kv-events", "--explain"], "--kv-events needs the address"),
        (["--endpoint", URL, "--kv-events", TEMPLATE], "--kv-events needs --tokenizer"),
        (["--sim", "2", f"--kv-events={TEMPLATE}"], "takes no address"),
    ],
)
def test_address_may_be_left_out_on_the_command_line(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["up", *arguments])
    assert result.exit_code == 2
    assert told in result.output


def test_simulated_servers_have_a_port_each() -> None:
    publishers = SimulatedPublishers(PortBook(), 2)
    events, replays = (int(argument.rpartition(":")[2]) for argument in publishers.arguments())
    assert addresses(publishers.label([endpoint("a", "127.0.0.1"), endpoint("b", "127.0.0.1", 8001)])) == {
        "a": (f"tcp://127.0.0.1:{events}", f"tcp://127.0.0.1:{replays}"),
        "b": (f"tcp://127.0.0.1:{events + 1}", f"tcp://127.0.0.1:{replays + 1}"),
    }


def test_ports_count_up_with_the_servers_behind_an_address_and_stay() -> None:
    publishers = NamedPublishers(TEMPLATE, 6000)
    first, second = endpoint("a"), endpoint("b", port=8001)
    both = publishers.label((first, second, endpoint("c", "fd00::1")))
    assert addresses(both) == {
        "a": ("tcp://10.0.0.1:5557", "tcp://10.0.0.1:6000"),
        "b": ("tcp://10.0.0.1:5558", "tcp://10.0.0.1:6001"),
        "c": ("tcp://[fd00::1]:5557", "tcp://[fd00::1]:6000"),
    }
    assert addresses(publishers.label((second,)))["b"][0] == "tcp://10.0.0.1:5558"
    assert publishers.label(publishers.label((second,))) == publishers.label((second,)), "labelled once, labelled for good"


def test_what_an_endpoint_says_itself_holds() -> None:
    own = endpoint("a", **{EVENTS: "ipc:///run/events"})
    assert addresses(NamedPublishers(TEMPLATE, 0).label((own,))) == {"a": ("ipc:///run/events", None)}


@pytest.mark.parametrize(
    ("policy", "scorers"),
    [
        ("", {"marginal-latency-scorer": 1.0}),
        ("reference", {"queue-scorer": 2.0, "kv-cache-utilization-scorer": 2.0, "prefix-cache-scorer": 3.0}),
        ("round-robin", {}),
    ],
)
@pytest.mark.parametrize("tokenizer", [URL + "/", "models/tiny"])
def test_written_configuration_keeps_the_scorers_of_the_policy(tmp_path: Path, policy: str, scorers: dict[str, float], tokenizer: str) -> None:
    file = tmp_path / "picker.json"
    write_configuration(file, tokenizer, policy)
    plan = read_plan(Given(file=file))
    (profile,) = plan.profiles
    assert {entry.plugin.type.name: entry.weight for entry in profile.entries if entry.weight is not None} == scorers
    settings = kv_events_settings(plan)
    assert settings is not None
    assert (settings.discover, settings.topic_filter, settings.replay_port) == (True, "", 0)
    producer = next(plugin for plugin in plan.plugins if plugin.type.name == "token-producer")
    # Envoy waits longer than that.
    expected = (
        {"vllm": {"url": URL, "timeout": "3s", "mmTimeout": "3s"}} if "://" in tokenizer else {"local": {"path": str(Path("models/tiny").absolute())}}
    )
    assert producer.parameters.given == expected
