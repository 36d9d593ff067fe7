"""The plugins that the engine does not describe: data sources, extractors, discovery. Names and defaults of the reference."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from warmroute.config.models import Name, Section


class Kind(Enum):
    """The extension point of a plugin."""

    SOURCE = "data source"
    EXTRACTOR = "extractor"
    DISCOVERY = "discovery"


class NoParameters(Section):
    """A plugin without parameters."""


def _page_path(path: str) -> str:
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        message = f"must be a path that starts with / and has no spaces, not {json.dumps(path)}"
        raise ValueError(message)
    return path


def _without_node_address(wanted: bool) -> bool:
    if wanted:
        message = (
            "the node of an endpoint is known from Kubernetes only, which this version does not read; run the exporter beside the model server, "
            "or set port to one that the endpoint's own address serves"
        )
        raise ValueError(message)
    return wanted


_PagePath = Annotated[str, Field(max_length=1024), AfterValidator(_page_path)]
_Port = Annotated[int, Field(ge=0, le=65535)]


class HttpSource(Section):
    """What all polled sources share: where the page is and how TLS is done."""

    scheme: Literal["http", "https"] = "http"
    insecure_skip_verify: bool = True
    ca_cert_path: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None

    @model_validator(mode="after")
    def _certificate_and_key(self) -> "HttpSource":
        if bool(self.client_cert_path) != bool(self.client_key_path):
            message = "clientCertPath and clientKeyPath are given together: a client certificate and its key"
            raise ValueError(message)
        return self


class MetricsDataSource(HttpSource):
    """The metrics page of each endpoint. `insecureSkipVerify` has no meaning over plain HTTP and is there for files that state it."""

    path: _PagePath = "/metrics"
    port: _Port | None = None
    interval: str | None = None


class ModelsDataSource(HttpSource):
    """The list of models of each endpoint."""

    path: _PagePath = "/v1/models"
    port: _Port | None = None
    interval: str | None = None


class DcgmDataSource(HttpSource):
    """The metrics page of NVIDIA's DCGM exporter beside each endpoint."""

    path: _PagePath = "/metrics"
    port: _Port = 9400
    interval: str | None = None
    use_node_address: Annotated[bool, AfterValidator(_without_node_address)] = False


class CustomMetric(Section):
    """A series that becomes an attribute of the endpoint."""

    attribute_key: Name
    metric_spec: Name


class EngineConfig(Section):
    """Names of one engine's series; specs are `name` or `name{label=value,...}`.

    `firstTokensSpec` is ours: the counter of first tokens, by which reserved prefill is released.
    """

    name: Name
    queued_requests_spec: str | None = None
    running_requests_spec: str | None = None
    kv_usage_spec: str | None = None
    lora_spec: str | None = None
    cache_info_spec: str | None = None
    cache_block_size_label_name: str | None = None
    cache_num_blocks_label_name: str | None = None
    cache_block_size_spec: str | None = None
    cache_num_blocks_spec: str | None = None
    first_tokens_spec: str | None = None
    custom_metrics: list[CustomMetric] = Field(default=[], max_length=64)


class CoreMetricsExtractor(Section):
    """Which engine's names a metrics page uses; `engineConfigs` add engines or override built-in ones by name."""

    engine_label_key: Name = "llm-d.ai/engine-type"
    default_engine: Name = "vllm"
    engine_configs: list[EngineConfig] = Field(default=[], max_length=64)


class FileDiscovery(Section):
    """Endpoints from a file."""

    path: Name
    watch_file: bool = False


@dataclass(frozen=True, slots=True)
class PluginType:
    """A type of plugin: its extension point and its parameters.

    `reads`: the type of source whose pages an extractor understands. `alpha`: needs --allow-experimental-plugins.
    """

    kind: Kind
    summary: str
    parameters: type[Section] = NoParameters
    reads: str | None = None
    alpha: bool = False


PLUGIN_TYPES: dict[str, PluginType] = {
    "metrics-data-source": PluginType(Kind.SOURCE, "Polls the metrics page of each endpoint.", MetricsDataSource),
    "models-data-source": PluginType(Kind.SOURCE, "Polls the list of models of each endpoint.", ModelsDataSource),
    "dcgm-data-source": PluginType(
        Kind.SOURCE, "Polls the metrics page of the DCGM exporter beside each endpoint: its GPUs' utilisation.", DcgmDataSource, alpha=True
    ),
    "endpoint-notification-source": PluginType(
        Kind.SOURCE, "Endpoints that come and go; the engine follows them by itself, so there is nothing to bind to it."
    ),
    "core-metrics-extractor": PluginType(
        Kind.EXTRACTOR,
        "Reads queue, running requests, cache usage and shape, and LoRA adapters from a metrics page.",
        CoreMetricsExtractor,
        reads="metrics-data-source",
    ),
    "models-data-extractor": PluginType(Kind.EXTRACTOR, "Reads the ids of the models that an endpoint serves.", reads="models-data-source"),
    "dcgm-extractor": PluginType(Kind.EXTRACTOR, "Reads the utilisation of an endpoint's GPUs.", reads="dcgm-data-source", alpha=True),
    "file-discovery": PluginType(Kind.DISCOVERY, "Endpoints from a file, watched for changes where watchFile says so.", FileDiscovery),
}

# What reads requests where a configuration does not say, in the reference's order.
DEFAULT_PARSERS = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
# By what the pool counts as saturated where a configuration does not say.
DEFAULT_DETECTOR = "utilization-detector"
# What dataLayer.injectDefaults adds.
DEFAULT_SOURCE, DEFAULT_EXTRACTOR = "metrics-data-source", "core-metrics-extractor"

# Engines whose series names the engine knows by itself.
BUILT_IN_ENGINES = ("vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton")

# Parameters of the reference's plugins that come with later work, per plugin type.
LATER_PARAMETERS: dict[str, frozenset[str]] = {
    "metrics-data-source": frozenset({"families"}),
    "openai-parser": frozenset({"propagatePriority"}),
}
