"""Envoy's configuration for the local gateway.

Each choice was found best by experiment on Envoy 1.40 (the project's notes: `reference/envoy.md`); the comments give the reason in short.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from warmroute.discovery.endpoints import EndpointRecord

Json: TypeAlias = dict[str, Any]

DESTINATION = "x-gateway-destination-endpoint"
#: Response header (and metadata key) that names the model server which answered.
SERVED = "x-gateway-destination-endpoint-served"
MODELS_CLUSTER = "models"
PICKER_CLUSTER = "picker"
#: How long a request waits for the picker, tokens included, before it goes on without.
MESSAGE_TIMEOUT = "5s"
#: Retries after the first try, before the first byte of an answer.
RETRIES = 2
#: Open connections of clients; further ones are refused.
_MAX_CLIENTS = 50_000

_TYPES = "type.googleapis.com/envoy"
# Streams to the picker live as long as the answers do: the default of 1024 would refuse the 1025th open answer.
_CIRCUIT_BREAKERS: Json = {
    "thresholds": [{"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 100_000}],
}


@dataclass(frozen=True, slots=True)
class Wiring:
    """Addresses and limits that the bootstrap needs; ports are real ones (not 0), sizes in bytes."""

    listen: str
    port: int
    admin_port: int
    picker_port: int
    endpoints_file: Path
    max_body: int
    health_path: str
    access_log: Path | None


def render(wiring: Wiring) -> str:
    """Text of the bootstrap file (JSON)."""
    return json.dumps(
        {
            # A cluster read from a file needs a node of a name.
            "node": {"id": "warmroute", "cluster": "warmroute"},
            # The admin page can stop Envoy: never on another address than loopback.
            "admin": {"address": _socket("127.0.0.1", wiring.admin_port)},
            "overload_manager": {"resource_monitors": [_connection_limit()]},
            "static_resources": {"listeners": [_listener(wiring)], "clusters": [_models(wiring), _picker(wiring)]},
        },
        indent=1,
    )


def render_endpoints(endpoints: Iterable[EndpointRecord]) -> str:
    """Text of the file (EDS) from which Envoy takes the model servers; to be put in place by rename."""
    hosts = [{"endpoint": {"address": _socket(endpoint.address, endpoint.port)}} for endpoint in endpoints]
    assignment = {
        "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": MODELS_CLUSTER,
        "endpoints": [{"lb_endpoints": hosts}] if hosts else [],
    }
    return json.dumps({"resources": [assignment]}, indent=1)


def _connection_limit() -> Json:
    monitor = f"{_TYPES}.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": monitor, "max_active_downstream_connections": _MAX_CLIENTS},
    }


def _socket(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _listener(wiring: Wiring) -> Json:
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "server_header_transformation": "PASS_THROUGH",
        # The client's request id is the one to find in the picker's decisions.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        # An answer that is not streamed shows no byte until it is complete: far beyond the default of 5 minutes for long ones.
        "stream_idle_timeout": "3600s",
        # Who opens connections and sends no request holds them for a minute at most.
        "request_headers_timeout": "60s",
        # A client sees the reset of its answer after 50 ms instead of 1 s.
        "delayed_close_timeout": "0.05s",
        # Before anything else sees the request: a client never chooses its upstream, also not when the picker is down.
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [{"remove": DESTINATION}],
                },
            },
        ],
        "route_config": {"virtual_hosts": [_virtual_host(wiring)]},
        "http_filters": [
            {"name": "picker", "typed_config": _picker_filter()},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"}},
        ],
        "local_reply_config": {"mappers": _local_replies(wiring)},
    }
    if wiring.access_log is not None:
        manager["access_log"] = [_access_log(wiring.access_log)]
    return {
        "name": "gateway",
        "address": _socket(wiring.listen, wiring.port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]},
        ],
    }


def _virtual_host(wiring: Wiring) -> Json:
    return {
        "name": "models",
        "domains": ["*"],
        # Here and not per connection: works for HTTP/1 and HTTP/2, and lets a body of this size be sent again by a retry. Envoy takes 1 MiB (HTTP/1)
        # or 16 MiB (HTTP/2) in any case: between the limit and that it is the picker, with the same limit, that refuses.
        "request_body_buffer_limit": wiring.max_body,
        "response_headers_to_add": [
            {"header": {"key": SERVED, "value": "%UPSTREAM_HOST%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        ],
        "routes": [
            {
                "match": {"prefix": "/"},
                "route": {
                    "cluster": MODELS_CLUSTER,
                    # A generation takes as long as it takes.
                    "timeout": "0s",
                    "retry_policy": {
                        # `reset` is one before response headers. A 500 is not retried: it would run the generation again, likely into the same error.
                        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
                        "retriable_status_codes": [503],
                        "num_retries": RETRIES,
                        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.01s"},
                        # The retries walk the picker's list; where there is none (picker down) they avoid the server that just failed.
                        "retry_host_predicate": [
                            {
                                "name": "envoy.retry_host_predicates.previous_hosts",
                                "typed_config": {"@type": f"{_TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                            },
                        ],
                        "host_selection_retry_max_attempts": 5,
                    },
                },
            },
        ],
    }


def _picker_filter() -> Json:
    return {
        "@type": f"{_TYPES}.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {"cluster_name": PICKER_CLUSTER}, "timeout": "30s"},
        # The body is not echoed, chunks of the answer do not pass the picker; the trailers keep the exchange open until the answer ends,
        # which is when the picker releases the load that it reserved.
        "processing_mode": {
            "request_header_mode": "SEND",
            "request_body_mode": "BUFFERED",
            "request_trailer_mode": "SKIP",
            "response_header_mode": "SEND",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SEND",
        },
        "message_timeout": MESSAGE_TIMEOUT,
        # The only setting with which a crash of the picker does not cut open answers.
        "failure_mode_allow": True,
        "mutation_rules": {"allow_all_routing": True},
        "allow_mode_override": True,
        "metadata_options": {
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
            "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
        },
        # How the picker learns which endpoint served, after retries.
        "response_attributes": ["upstream.address", "upstream.request_attempt_count"],
    }


def _local_replies(wiring: Wiring) -> list[Json]:
    """Answers of Envoy's own, shaped like those of a model server. Replies of the picker carry none of these flags and stay as they are."""
    unavailable = {
        "UH": "No model server is ready: none is known, or all fail their health check.",
        "UF": "The model servers that were tried refuse connections.",
        "UC": "The model servers that were tried closed the connection without an answer.",
        "UR": "The model servers that were tried reset the request.",
        "UO": "The gateway has too many requests open.",
        "NC": "The gateway does not know its model servers.",
    }
    replies = [_local_reply({"response_flag_filter": {"flags": [flag]}}, text, "service_unavailable", 503) for flag, text in unavailable.items()]
    too_large = f"The request body is larger than the gateway's limit of {wiring.max_body} bytes (warmroute up --max-body)."
    return [*replies, _local_reply(_status_is(413), too_large, "invalid_request_error", 413)]


def _local_reply(condition: Json, message: str, kind: str, code: int) -> Json:
    error = {"message": message, "type": kind, "code": code, "flags": "%RESPONSE_FLAGS%"}
    return {"filter": condition, "status_code": code, "body_format_override": {"json_format": {"error": error}}}


def _status_is(status: int) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"warmroute.local_reply.{status}"}}
    return {"status_code_filter": {"comparison": comparison}}


def _access_log(path: Path) -> Json:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "endpoint": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "first_byte_ms": "%RESPONSE_DURATION%",
        "duration_ms": "%DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": fields},
        },
    }


def _models(wiring: Wiring) -> Json:
    cluster: Json = {
        "name": MODELS_CLUSTER,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {
            "service_name": MODELS_CLUSTER,
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": str(wiring.endpoints_file),
                    "watched_directory": {"path": str(wiring.endpoints_file.parent)},
                },
            },
        },
        "load_balancing_policy": _override_host(),
        # Without it Envoy sends to servers that fail their health check when more than half of them do; a 503 with its reason is the better answer.
        # And without a merge window of nothing it uses a server that became healthy a second later.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "circuit_breakers": _CIRCUIT_BREAKERS,
        "outlier_detection": {"consecutive_gateway_failure": 5, "enforcing_consecutive_5xx": 0, "base_ejection_time": "5s"},
        # An endpoint that was taken out of the file is gone at once, also when it still answers health checks; its open answers go on.
        "ignore_health_on_host_removal": True,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                # uvicorn, the server of most engines, closes idle connections after 5 s: be first, or a request meets the close.
                "common_http_protocol_options": {"idle_timeout": "4s"},
            },
        },
    }
    if wiring.health_path:
        cluster["health_checks"] = [
            {
                "timeout": "1s",
                "interval": "2s",
                # The default for a cluster without traffic is a minute: a server that starts after the gateway would stay out that long.
                "no_traffic_interval": "1s",
                "unhealthy_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": wiring.health_path},
            },
        ]
    return cluster


def _override_host() -> Json:
    return {
        "policies": [
            {
                "typed_extension_config": {
                    "name": "envoy.load_balancing_policies.override_host",
                    "typed_config": {
                        "@type": f"{_TYPES}.extensions.load_balancing_policies.override_host.v3.OverrideHost",
                        # Metadata, which only the picker can write; a header could be forged.
                        "override_host_sources": [{"metadata": {"key": "envoy.lb", "path": [{"key": DESTINATION}]}}],
                        "selected_host_key": {"key": "envoy.lb", "path": [{"key": SERVED}]},
                        "fallback_policy": {
                            "policies": [
                                {
                                    "typed_extension_config": {
                                        "name": "envoy.load_balancing_policies.least_request",
                                        "typed_config": {
                                            "@type": f"{_TYPES}.extensions.load_balancing_policies.least_request.v3.LeastRequest",
                                        },
                                    },
                                },
                            ],
                        },
                    },
                },
            },
        ],
    }


def _picker(wiring: Wiring) -> Json:
    return {
        "name": PICKER_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": PICKER_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket("127.0.0.1", wiring.picker_port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "circuit_breakers": _CIRCUIT_BREAKERS,
    }
