"""The command line: the reference's names and forms, nothing accepted and ignored."""

import ast
import dataclasses
from pathlib import Path

import pytest

import warmroute.config.flags as flags_module
from warmroute.config.errors import UsageError
from warmroute.config.flags import LATER_FLAGS, Flags, build_parser, parse_flags

PACKAGE = Path(flags_module.__file__).parents[1]


def test_defaults_are_the_references():
    flags = parse_flags([])
    assert flags == Flags()
    assert (flags.grpc_port, flags.grpc_health_port, flags.metrics_port) == (9002, 9003, 9090)
    assert (flags.drain_timeout, flags.refresh_metrics_interval, flags.refresh_prometheus_metrics_interval) == (30.0, 0.05, 5.0)
    assert (flags.metrics_staleness_threshold, flags.v, flags.secure_serving, flags.max_body) == (2.0, 2, True, 64 * 1024 * 1024)


@pytest.mark.parametrize("form", [["--grpc-port=9100"], ["--grpc-port", "9100"]])
def test_value_after_equals_sign_or_as_next_word(form):
    assert parse_flags(form).grpc_port == 9100


@pytest.mark.parametrize(
    ("form", "value"),
    [(["--secure-serving=false"], False), (["--secure-serving"], True), (["--secure-serving=0"], False), (["--secure-serving=T"], True)],
)
def test_booleans_as_in_go(form, value):
    assert parse_flags([*form, "--grpc-port=1"]).secure_serving is value


@pytest.mark.parametrize("form", [["-v=4"], ["-v", "4"], ["--v=4"], ["-v4"]])
def test_verbosity_in_every_form(form):
    assert parse_flags(form).v == 4


def test_negative_verbosity_is_the_default():
    assert parse_flags(["--v=-1"]).v == 2


def test_repeated_endpoints_keep_their_order():
    assert parse_flags(["--endpoint", "http://b:1", "--endpoint=http://a:1"]).endpoint == ("http://b:1", "http://a:1")


def test_pool_namespace_falls_back_to_the_environment():
    assert parse_flags([], {"NAMESPACE": "prod"}).default_namespace == "prod"
    assert parse_flags(["--pool-namespace=own"], {"NAMESPACE": "prod"}).default_namespace == "own"
    assert parse_flags([]).default_namespace == "default"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grpc-prot=1"], 'unknown flag --grpc-prot (did you mean "--grpc-port"?)'),
        (["--xyzzy"], "unknown flag --xyzzy"),
        (["--grpc-por=1"], 'unknown flag --grpc-por (did you mean "--grpc-port"?)'),
        (["--tracing=false"], "--tracing is known to the reference picker and not supported by this version of warmroute"),
        (["serve"], "unexpected argument 'serve'"),
        (["--response-sample=1.5"], "'1.5' is no number from 0 to 1"),
        (["--response-sample=nan"], "'nan' is no number from 0 to 1"),
        (["--grpc-port=70000"], "'70000' is no port (0 to 65535; 0 picks a free one)"),
        (["--drain-timeout=30"], "'30' is no duration (examples: 250ms, 30s, 1m30s)"),
        (["--max-body=lots"], "'lots' is no quantity (examples: 4194304, 10Mi, 10MiB, 25M)"),
        (["--secure-serving=maybe"], "'maybe' is no boolean (true or false)"),
        (["--policy=lmetrik"], "argument --policy: 'lmetrik' is no policy (did you mean \"lmetric\"?); there are marginal-latency, bounded-hash,"),
        (["--max-endpoints=0"], "must be from 1 to 64"),
        (["--config-file=a", "--config-text=b"], "--config-file and --config-text exclude each other"),
        (["--config-file=a", "--policy=reference"], "--policy is for a picker without a configuration"),
        (["--endpoint=http://a:1", "--endpoints=f"], "--endpoint and --endpoints exclude each other"),
        (["--secure-serving=false", "--cert-path=/x"], "--cert-path has no meaning with --secure-serving=false"),
        (["--enable-cert-reload"], "--enable-cert-reload needs --cert-path"),
        (["--health-checking"], "--health-checking needs --host grpcio"),
        (["--grpc-max-send-msg-size=1Mi"], "--grpc-max-send-msg-size needs --host grpcio"),
        (["--host=grpcio", "--threads=2"], "--threads needs --host native"),
        (["--host=grpcio", "--tls-min-version=VersionTLS13"], "--tls-min-version=VersionTLS13 needs --host native"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_change(arguments, message):
    with pytest.raises(UsageError) as refused:
        parse_flags(arguments)
    assert message in str(refused.value)


def test_no_flag_is_both_supported_and_refused_as_later():
    assert not LATER_FLAGS & {field.name.replace("_", "-") for field in dataclasses.fields(Flags)}


def test_every_flag_is_read_somewhere():
    read: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            # The checks of combinations, in the module itself, do not count as use.
            counts = path.name != "flags.py" or getattr(node, "attr", "") == "pool_namespace"
            if counts and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and _is_flags(node.value, path):
                read.add(node.attr)
    destinations = {action.dest for action in build_parser()._actions} - {"help"}
    assert destinations == {field.name for field in dataclasses.fields(Flags)}
    assert destinations - read == set()


def _is_flags(node: ast.expr, path: Path) -> bool:
    """`flags.…`, `self._flags.…`, and `self.…` inside the class itself."""
    if isinstance(node, ast.Name):
        return node.id == "flags" or (node.id == "self" and path.name == "flags.py")
    return isinstance(node, ast.Attribute) and node.attr == "_flags"
