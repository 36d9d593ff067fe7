"""Endpoints from flags and files, and what reaches the engine."""

import asyncio
import json

import pytest

from warmroute.config.errors import ConfigError, UsageError
from warmroute.discovery.endpoints import EndpointRecord, EndpointSink
from warmroute.discovery.file import FileDiscovery, load_endpoints
from warmroute.discovery.static import static_endpoints

from .conftest import eventually


class Registry:
    """Records what discovery tells the engine."""

    def __init__(self):
        self.calls = []
        self.synced = False

    def upsert_endpoint(self, _namespace, name, address, port, labels, metrics_host=None):
        self.calls.append(("upsert", name, address, port, dict(labels), metrics_host))

    def remove_endpoint(self, _namespace, name):
        self.calls.append(("remove", name))
        return True

    def set_synced(self, *, synced):
        self.synced = synced


def write(path, endpoints):
    """As an atomic rename, the way editors and Kubernetes replace files."""
    new = path.with_name("new")
    new.write_text(endpoints if isinstance(endpoints, str) else json.dumps({"endpoints": endpoints}))
    new.replace(path)


def entry(name, address="10.0.0.1", port="8000", **more):
    return {"name": name, "address": address, "port": port, **more}


def test_static_endpoints_are_named_in_order():
    records = static_endpoints(["http://10.0.0.5:8000", "http://[2001:db8::1]:9/", "http://10.0.0.6"], "prod")
    assert [(r.namespace, r.name, r.address, r.port) for r in records] == [
        ("prod", "endpoint-0", "10.0.0.5", 8000),
        ("prod", "endpoint-1", "2001:db8::1", 9),
        ("prod", "endpoint-2", "10.0.0.6", 80),
    ]


def test_host_name_is_resolved_once():
    assert static_endpoints(["http://localhost:1"], "default")[0].address in {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        (["https://10.0.0.5"], "https is not supported by this version"),
        (["10.0.0.5:8000"], "expected http://HOST:PORT"),
        (["http://10.0.0.5:8000/v1"], "only a host and a port are expected"),
        (["http://10.0.0.5:99999"], "Port out of range"),
        (["http://10.0.0.5:0"], "port 0 cannot be reached"),
        (["http://no-such-host.invalid:1"], "the host name does not resolve"),
        (["http://10.0.0.5:80", "http://10.0.0.5"], "the same address as --endpoint http://10.0.0.5:80"),
    ],
)
def test_static_endpoint_that_cannot_be_used_is_refused(urls, message):
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        static_endpoints(urls, "default")


def test_sink_tells_the_engine_only_what_changed():
    registry = Registry()
    sink = EndpointSink(registry)
    first, second = EndpointRecord("default", "a", "10.0.0.1", 1), EndpointRecord("default", "b", "10.0.0.2", 2)
    assert not registry.synced
    sink.replace([first, second])
    assert registry.synced
    registry.calls.clear()
    sink.replace([first, EndpointRecord("default", "c", "10.0.0.3", 3)])
    assert registry.calls == [("upsert", "c", "10.0.0.3", 3, {}, None), ("remove", "b")]


def test_yaml_file_in_the_references_format(tmp_path):
    path = tmp_path / "endpoints.yaml"
    path.write_text(
        "endpoints:\n- name: a\n  address: 10.0.0.1\n  port: '8000'\n  labels: {zone: x}\n- {name: b, namespace: n, address: '::1', port: 8001}\n",
    )
    records, problems = load_endpoints(path)
    assert problems == []
    assert records == [EndpointRecord("default", "a", "10.0.0.1", 8000, {"zone": "x"}), EndpointRecord("n", "b", "::1", 8001)]


def test_bad_entries_are_skipped_with_their_line_and_the_good_ones_stay(tmp_path):
    path = tmp_path / "endpoints.json"
    bad = [
        ({"address": "10.0.0.9", "port": "1"}, "name: required, a text"),
        (entry("b", address="server.example"), "address: must be an IP address (host names are not resolved), not 'server.example'"),
        (entry("c", port="0"), "port: must be a port from 1 to 65535, not '0'"),
        (entry("d", port=True), "port: must be a port from 1 to 65535, not True"),
        (entry("e", address="fe80::1%eth0"), "address: an IPv6 address with a zone cannot be routed to"),
        (entry("f", labels={"a": 1}), "labels: must be a mapping from text to text"),
        (entry("g", weight=1), 'weight: unknown field "weight"'),
        (entry("good", address="10.0.0.2"), 'name: "good" is listed twice'),
        (entry("h"), 'address: the same address and port as "good"'),
        ("x", "expected a mapping with name, address and port"),
    ]
    write(path, '{"endpoints": [\n' + ",\n".join(json.dumps(item) for item in [entry("good"), *(item for item, _ in bad)]) + "\n]}")
    records, problems = load_endpoints(path)
    assert [record.name for record in records] == ["good"]
    assert [f"{problem.field}: {problem.message}".partition("].")[2] or problem.message for problem in problems] == [text for _, text in bad]
    assert [problem.line for problem in problems] == list(range(3, 3 + len(bad)))


@pytest.mark.parametrize(
    "text",
    ["", "endpoints: 3", "- 1", "endpoints: [", "endpoints: []\nmore: 1", "\x00", pytest.param("#" * (1024 * 1024 + 1), id="more than 1 MiB")],
)
def test_bad_file_is_refused_as_a_whole(tmp_path, text):
    path = tmp_path / "endpoints.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        FileDiscovery(path, EndpointSink(Registry())).load()


def test_unreadable_reload_keeps_the_old_set(tmp_path, caplog):
    path = tmp_path / "endpoints.json"
    write(path, [entry("a")])
    sink = EndpointSink(Registry())
    discovery = FileDiscovery(path, sink)
    discovery.load()
    for text in ("endpoints: [", "", "{}"):
        write(path, text)
        discovery.reload()
        assert [record.name for record in sink.current] == ["a"]
    path.unlink()
    discovery.reload()
    assert [record.name for record in sink.current] == ["a"]
    write(path, [])
    discovery.reload()
    assert sink.current == []


async def test_file_is_followed_through_renames_rewrites_and_kubernetes_links(tmp_path):
    (tmp_path / "..1").mkdir()
    write(tmp_path / "..1" / "endpoints.json", [entry("a")])
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "endpoints.json"
    path.symlink_to("..data/endpoints.json")
    sink = EndpointSink(Registry())
    discovery = FileDiscovery(path, sink)
    discovery.load()
    watching = asyncio.create_task(discovery.watch())

    async def becomes(*names):
        async with asyncio.timeout(15):
            while sorted(record.name for record in sink.current) != sorted(names):  # noqa: ASYNC110 - the sink tells no events
                await asyncio.sleep(0.02)

    try:
        # The new version beside the old one, then the link swapped, as the kubelet does.
        (tmp_path / "..2").mkdir()
        write(tmp_path / "..2" / "endpoints.json", [entry("a"), entry("b", address="10.0.0.2")])
        (tmp_path / "..next").symlink_to("..2")
        (tmp_path / "..next").replace(tmp_path / "..data")
        await becomes("a", "b")
        path.unlink()
        write(path, [entry("c")])
        await becomes("c")
        path.write_text(json.dumps({"endpoints": [entry("d")]}))
        await becomes("d")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_running_picker_follows_its_file(start_picker, tmp_path):
    path = tmp_path / "endpoints.json"
    write(path, [entry("a"), entry("broken", address="nowhere")])
    picker = start_picker(f"--endpoints={path}")
    assert picker.endpoints() == {"a": "10.0.0.1:8000"}
    assert eventually(lambda: picker.logged("endpoint skipped"))["field"] == "endpoints[1].address"
    write(path, [entry("a"), entry("b", address="2001:db8::2")])
    eventually(lambda: picker.endpoints() == {"a": "10.0.0.1:8000", "b": "[2001:db8::2]:8000"})
    write(path, "endpoints: [")
    eventually(lambda: picker.logged("endpoints file cannot be used"))
    assert set(picker.endpoints()) == {"a", "b"}


def test_configured_file_discovery_feeds_the_picker(start_picker, tmp_path):
    path = tmp_path / "endpoints.json"
    write(path, [entry("a")])
    text = (
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
        f"plugins: [{{type: file-discovery, parameters: {{path: {path}, watchFile: true}}}}]\n"
        "dataLayer: {discovery: {pluginRef: file-discovery}}\n"
    )
    assert start_picker(f"--config-text={text}").endpoints() == {"a": "10.0.0.1:8000"}


def test_bad_initial_file_ends_the_start(start_process, tmp_path):
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints:\n  - [\n")
    process = start_process("--secure-serving=false", f"--endpoints={path}")
    assert process.wait() == 2
    assert f"{path}:3: not valid YAML" in "".join(process.errors)
