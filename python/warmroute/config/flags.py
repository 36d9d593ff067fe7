"""Flags of `warmroute epp`: one table is the parser, the defaults and the type that the rest reads.

Flags that the reference has too carry its names (`--flag=value`, `--flag value`; booleans as `--flag` or `--flag=false`).
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from warmroute import policies
from warmroute.config.errors import UsageError, nearest
from warmroute.config.quantities import parse_bool, parse_duration, parse_quantity

SHORTEST_REFRESH_SECONDS = 0.05
# The engine's bound on the fallback list: a header longer than that helps nobody.
MOST_ENDPOINTS_LISTED = 64
_HIGHEST_PORT = 65535
SMALLEST_RECORDING_BYTES = 64 * 1024
_RECORD_SAMPLE = 1.0
_RECORD_MAX_BYTES = 256 * 1024 * 1024
# The engine's own limit.
_LONGEST_PLUGIN_SECONDS = 60

# Flags of the reference that come with later work; naming one says so instead of guessing a neighbour.
LATER_FLAGS = frozenset(
    [
        "ha-enable-leader-election",
        "pool-group",
        "endpoint-selector",
        "endpoint-target-ports",
        "total-queued-requests-metric",
        "total-running-requests-metric",
        "kv-cache-usage-percentage-metric",
        "lora-info-metric",
        "cache-info-metric",
        "tracing",
        "enable-pprof",
        "tls-cipher-suites",
        "metrics-endpoint-auth",
        "metrics-cert-dir",
        "metrics-client-ca-file",
        "zap-devel",
        "zap-stacktrace-level",
        "zap-time-encoding",
        "kubeconfig",
    ]
)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > _HIGHEST_PORT:
        message = f"{text!r} is no port (0 to {_HIGHEST_PORT}; 0 picks a free one)"
        raise ValueError(message)
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        message = f"{text!r} is no whole number from 0"
        raise ValueError(message)
    return int(text)


def _list_length(text: str) -> int:
    number = _count(text)
    if not 1 <= number <= MOST_ENDPOINTS_LISTED:
        message = f"must be from 1 to {MOST_ENDPOINTS_LISTED}"
        raise ValueError(message)
    return number


def _plugin_timeout(text: str) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds <= _LONGEST_PLUGIN_SECONDS:
        message = f"must be above 0 and at most {_LONGEST_PLUGIN_SECONDS}s: every request waits that long for a plugin that hangs"
        raise ValueError(message)
    return seconds


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        message = f"{text!r} is no number from 0 to 1"
        raise ValueError(message)
    return number


def _share_of_some(text: str) -> float:
    share = _share(text)
    if not share:
        message = "must be above 0: leave --record-decisions out to record nothing"
        raise ValueError(message)
    return share


def _recording_bytes(text: str) -> int:
    size = parse_quantity(text)
    if size < SMALLEST_RECORDING_BYTES:
        message = f"must be at least {SMALLEST_RECORDING_BYTES} bytes: the configuration and the endpoints stand in the file too"
        raise ValueError(message)
    return size


def _verbosity(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        message = f"{text!r} is no whole number"
        raise ValueError(message) from None
    return number if number >= 0 else 2


def _optional_quantity(text: str) -> int | None:
    return (parse_quantity(text) or None) if text else None


def _optional_path(text: str) -> Path | None:
    return Path(text) if text else None


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            message = f"{text!r} is not one of {', '.join(choice or 'the empty string' for choice in choices)}"
            raise ValueError(message)
        return text

    return parse


def _policy(text: str) -> str:
    if text not in policies.names():
        raise ValueError(policies.unknown(text))
    return text


def _log_level(text: str) -> str:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return text
    return _one_of("", "debug", "info", "error")(text)


def _flag(parse: Callable[[str], Any], text: str, *, metavar: str = "VALUE", repeat: bool = False, short: str | None = None) -> dict[str, Any]:
    """How a field is a flag: its parser, help and form on the command line."""
    return {"parse": parse, "help": text, "metavar": metavar, "repeat": repeat, "short": short}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Every flag, parsed. Durations are seconds, sizes bytes. The underscores are hyphens on the command line."""

    grpc_port: int = dataclasses.field(default=9002, metadata=_flag(_port, "port of the ext_proc listener", metavar="PORT"))
    grpc_health_port: int = dataclasses.field(default=9003, metadata=_flag(_port, "port of the gRPC health listener (plaintext)", metavar="PORT"))
    metrics_port: int = dataclasses.field(
        default=9090, metadata=_flag(_port, "port of the HTTP listener for metrics and debug pages", metavar="PORT")
    )
    drain_timeout: float = dataclasses.field(
        default=30.0,
        metadata=_flag(parse_duration, "how long ext_proc keeps serving after SIGTERM; 0 stops at once", metavar="DURATION"),
    )
    grpc_max_recv_msg_size: int | None = dataclasses.field(
        default=None,
        metadata=_flag(_optional_quantity, "largest ext_proc message accepted (10MiB); default: what --max-body needs", metavar="QUANTITY"),
    )
    grpc_max_send_msg_size: int | None = dataclasses.field(
        default=None, metadata=_flag(_optional_quantity, "largest ext_proc message sent; --host grpcio only; default: no limit", metavar="QUANTITY")
    )
    pool_name: str = dataclasses.field(
        default="", metadata=_flag(str, "name of the pool: the label `name` of the pool's metrics (default: epp)", metavar="NAME")
    )
    pool_namespace: str = dataclasses.field(
        default="", metadata=_flag(str, "namespace of endpoints given by --endpoint (default: $NAMESPACE, then default)", metavar="NAME")
    )
    disable_endpoint_subset_filter: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "ignore the gateway's subset hints"))
    emit_endpoint_scores: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "publish the scores in dynamic metadata"))
    refresh_metrics_interval: float = dataclasses.field(
        default=SHORTEST_REFRESH_SECONDS, metadata=_flag(parse_duration, "base scrape interval, at least 50ms", metavar="DURATION")
    )
    refresh_prometheus_metrics_interval: float = dataclasses.field(
        default=5.0, metadata=_flag(parse_duration, "how often the pool's gauges are recomputed", metavar="DURATION")
    )
    metrics_staleness_threshold: float = dataclasses.field(
        default=2.0, metadata=_flag(parse_duration, "age from which an endpoint's metrics count as missing in the pool's gauges", metavar="DURATION")
    )
    v: int = dataclasses.field(
        default=2, metadata=_flag(_verbosity, "log verbosity: 2 default, 3 verbose, 4 debug, 5 trace", metavar="N", short="-v")
    )
    zap_log_level: str = dataclasses.field(
        default="", metadata=_flag(_log_level, "log level instead of -v: debug, info, error, or a verbosity from 1", metavar="LEVEL")
    )
    zap_encoder: str = dataclasses.field(default="json", metadata=_flag(_one_of("json", "console"), "log format: json or console", metavar="FORMAT"))
    health_checking: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "gRPC health on the ext_proc port too; --host grpcio only"))
    cert_path: Path | None = dataclasses.field(
        default=None, metadata=_flag(_optional_path, "directory with tls.crt and tls.key; default: a self-signed certificate", metavar="DIRECTORY")
    )
    enable_cert_reload: bool = dataclasses.field(
        default=False, metadata=_flag(parse_bool, "watch --cert-path and use a new certificate as it appears")
    )
    secure_serving: bool = dataclasses.field(default=True, metadata=_flag(parse_bool, "TLS on the ext_proc port"))
    tls_min_version: str = dataclasses.field(
        default="",
        metadata=_flag(
            _one_of("", "VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"),
            "lowest TLS version accepted, VersionTLS12 or VersionTLS13 (10 and 11 mean 12: nothing older is spoken)",
            metavar="VERSION",
        ),
    )
    config_file: Path | None = dataclasses.field(default=None, metadata=_flag(_optional_path, "EndpointPickerConfig file", metavar="FILE"))
    config_text: str = dataclasses.field(default="", metadata=_flag(str, "EndpointPickerConfig as text", metavar="YAML"))
    allow_experimental_plugins: bool = dataclasses.field(
        default=False, metadata=_flag(parse_bool, "allow plugin types that are experimental (alpha) in the configuration")
    )
    host: Literal["native", "grpcio"] = dataclasses.field(
        default="native", metadata=_flag(_one_of("native", "grpcio"), "what speaks gRPC: native (Rust) or grpcio (Python)", metavar="HOST")
    )
    endpoint: tuple[str, ...] = dataclasses.field(
        default=(),
        metadata=_flag(str, "a model server, such as http://10.0.0.5:8000 (repeatable; a host name is resolved once)", metavar="URL", repeat=True),
    )
    endpoints: Path | None = dataclasses.field(default=None, metadata=_flag(_optional_path, "file of endpoints, watched for changes", metavar="FILE"))
    bind_address: str = dataclasses.field(default="", metadata=_flag(str, "address of all listeners; default: every interface", metavar="ADDRESS"))
    grpc_address: str = dataclasses.field(
        default="", metadata=_flag(str, "address of the ext_proc listener, or unix:/path; default: --bind-address", metavar="ADDRESS")
    )
    policy: str = dataclasses.field(
        default="",
        metadata=_flag(_policy, f"policy without a configuration: {', '.join(policies.names())}; default: {policies.DEFAULT}", metavar="POLICY"),
    )
    max_endpoints: int | None = dataclasses.field(
        default=None,
        metadata=_flag(
            _list_length, "endpoints in the destination, best first, where the picker's maxNumOfEndpoints does not say (default: 1)", metavar="N"
        ),
    )
    max_body: int = dataclasses.field(
        default=64 * 1024 * 1024, metadata=_flag(parse_quantity, "largest request body; a larger one gets 413", metavar="QUANTITY")
    )
    explain: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "keep the last decisions and answer x-warmroute-explain"))
    record_decisions: Path | None = dataclasses.field(
        default=None,
        metadata=_flag(
            _optional_path,
            "write decisions into this new file, for `warmroute replay`: block hashes, lengths and loads, no text of prompts",
            metavar="FILE",
        ),
    )
    record_sample: float = dataclasses.field(
        default=_RECORD_SAMPLE, metadata=_flag(_share_of_some, "share of the decisions that --record-decisions writes, above 0 to 1", metavar="SHARE")
    )
    record_max_bytes: int = dataclasses.field(
        default=_RECORD_MAX_BYTES, metadata=_flag(_recording_bytes, "size at which --record-decisions ends", metavar="QUANTITY")
    )
    record_optional: bool = dataclasses.field(
        default=False,
        metadata=_flag(
            parse_bool, "serve without a recording where --record-decisions cannot be written, such as after a restart that finds the file in use"
        ),
    )
    response_usage: bool = dataclasses.field(
        default=False, metadata=_flag(parse_bool, "read response bodies for token usage and first-token times, where the gateway sends them")
    )
    response_sample: float = dataclasses.field(
        default=0.02,
        metadata=_flag(
            _share,
            "share of the streamed answers, from 0 to 1, whose body is asked for where the gateway can be asked, to see their first token; 0: none",
            metavar="SHARE",
        ),
    )
    enable_grpc_stream_metrics: bool = dataclasses.field(
        default=False, metadata=_flag(parse_bool, "count the ext_proc streams themselves: open, duration, gRPC status (extproc_stream*)")
    )
    deprecated_metrics: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "serve the reference's deprecated metric names too"))
    plugin_module: tuple[str, ...] = dataclasses.field(
        default=(),
        metadata=_flag(str, "Python module, or path of a .py file, with scorers and filters (repeatable)", metavar="MODULE", repeat=True),
    )
    plugin_timeout: float = dataclasses.field(
        default=0.010, metadata=_flag(_plugin_timeout, "how long a decision waits for one call of a plugin in Python", metavar="DURATION")
    )
    threads: int = dataclasses.field(default=0, metadata=_flag(_count, "threads of the native host; 0: one a core", metavar="N"))
    print_ready: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "print one JSON line with the addresses once serving"))
    die_with_parent: bool = dataclasses.field(default=False, metadata=_flag(parse_bool, "end when the parent process ends (Linux)"))

    @property
    def default_namespace(self) -> str:
        """Namespace of endpoints that name none."""
        return self.pool_namespace or "default"


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `warmroute epp`; each flag's destination is a field of Flags."""
    parser = _Parser(
        prog="warmroute epp",
        description="The endpoint picker: answers a gateway's ext_proc calls with the endpoint that serves each request best.",
        allow_abbrev=False,
    )
    for field in dataclasses.fields(Flags):
        names = [f"--{field.name.replace('_', '-')}"]
        if field.metadata["short"] is not None:
            names.insert(0, field.metadata["short"])
        options: dict[str, Any] = {
            "dest": field.name,
            # What is not given stays out of the namespace: argparse would run a default that is text through `type`.
            "default": argparse.SUPPRESS,
            "type": _converter(field.metadata["parse"]),
            "help": field.metadata["help"].replace("%", "%%"),
            "metavar": field.metadata["metavar"],
        }
        if field.metadata["parse"] is parse_bool:
            options |= {"nargs": "?", "const": True, "metavar": "BOOL"}
        if field.metadata["repeat"]:
            options |= {"action": "append"}
        parser.add_argument(*names, **options)
    return parser


def _converter(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Argparse hides the text of a ValueError; its own error type is shown."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def parse_flags(arguments: Sequence[str], environment: dict[str, str] | None = None) -> Flags:
    """Parse the command line. Raises UsageError; exits for --help as argparse does."""
    parser = build_parser()
    namespace, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise UsageError(_unknown(unknown[0]))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(namespace).items()}
    if not values.get("pool_namespace"):
        values["pool_namespace"] = (environment or {}).get("NAMESPACE", "")
    flags = Flags(**values)
    _check(flags)
    return flags


def _unknown(argument: str) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}"
    name = argument.lstrip("-").partition("=")[0]
    if name in LATER_FLAGS:
        return f"--{name} is known to the reference picker and not supported by this version of warmroute"
    known = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Flags)]
    return f"unknown flag --{name}{nearest(f'--{name}', known)}"


def _check(flags: Flags) -> None:
    """Refuse combinations that could only be ignored in part."""
    if flags.config_file is not None and flags.config_text:
        message = "--config-file and --config-text exclude each other"
        raise UsageError(message)
    if flags.policy and (flags.config_file is not None or flags.config_text):
        message = "--policy is for a picker without a configuration; name the scorers in the configuration instead"
        raise UsageError(message)
    if flags.endpoint and flags.endpoints is not None:
        message = "--endpoint and --endpoints exclude each other"
        raise UsageError(message)
    if not flags.secure_serving:
        for name, given in (
            ("--cert-path", flags.cert_path is not None),
            ("--tls-min-version", bool(flags.tls_min_version)),
        ):
            if given:
                message = f"{name} has no meaning with --secure-serving=false"
                raise UsageError(message)
    if flags.enable_cert_reload and flags.cert_path is None:
        message = "--enable-cert-reload needs --cert-path: a self-signed certificate has no file to watch"
        raise UsageError(message)
    _check_recording(flags)
    _check_host(flags)
    if flags.max_body == 0:
        message = "--max-body must be at least one byte"
        raise UsageError(message)
    if flags.refresh_prometheus_metrics_interval == 0:
        message = "--refresh-prometheus-metrics-interval must be longer than zero"
        raise UsageError(message)


def _check_recording(flags: Flags) -> None:
    if flags.record_decisions is not None:
        return
    for name, given in (
        ("--record-sample", flags.record_sample != _RECORD_SAMPLE),
        ("--record-max-bytes", flags.record_max_bytes != _RECORD_MAX_BYTES),
        ("--record-optional", flags.record_optional),
    ):
        if given:
            message = f"{name} needs --record-decisions FILE"
            raise UsageError(message)


def _check_host(flags: Flags) -> None:
    if flags.host == "native":
        if flags.health_checking:
            message = "--health-checking needs --host grpcio; with the native host use the health port (--grpc-health-port)"
            raise UsageError(message)
        if flags.grpc_max_send_msg_size is not None:
            message = "--grpc-max-send-msg-size needs --host grpcio; the native host sends messages of any size"
            raise UsageError(message)
    else:
        if flags.threads:
            message = "--threads needs --host native; the grpcio host runs in one thread of Python"
            raise UsageError(message)
        if flags.tls_min_version == "VersionTLS13":
            message = "--tls-min-version=VersionTLS13 needs --host native; gRPC's Python server always accepts TLS 1.2"
            raise UsageError(message)
