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


_PagePath = Annotated[
    str,
    Field(max_length=1024, description="Path of the page.", json_schema_extra={"expected": "a path that begins with /"}),
    AfterValidator(_page_path),
]
_Port = Annotated[int, Field(ge=0, le=65535, description="Port of the page; left out: the endpoint's own.")]
_Interval = Annotated[
    str | None,
    Field(
        description="Time between two looks, a multiple of --refresh-metrics-interval; left out: that interval.",
        json_schema_extra={"expected": "a duration such as 200ms"},
    ),
]
_Spec = Annotated[str | None, Field(json_schema_extra={"expected": "a series as `name` or `name{label=value,…}`"})]
_Counter = Annotated[str | None, Field(json_schema_extra={"expected": "series as `name` or `name{label=value,…}`, parted by a vertical bar"})]
_File = Annotated[str | None, Field(json_schema_extra={"expected": "a path"})]


class HttpSource(Section):
    """What all polled sources share: where the page is and how TLS is done."""

    scheme: Annotated[Literal["http", "https"], Field(description="How the page is fetched.")] = "http"
    insecure_skip_verify: Annotated[bool, Field(description="With https: accept any certificate.")] = True
    ca_cert_path: Annotated[_File, Field(description="PEM file of the authorities that certificates are checked against.")] = None
    client_cert_path: Annotated[_File, Field(description="PEM file of the certificate to present; with clientKeyPath.")] = None
    client_key_path: Annotated[_File, Field(description="PEM file of that certificate's private key.")] = None

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
    interval: _Interval = None


class ModelsDataSource(HttpSource):
    """The list of models of each endpoint."""

    path: _PagePath = "/v1/models"
    port: _Port | None = None
    interval: _Interval = None


class DcgmDataSource(HttpSource):
    """The metrics page of NVIDIA's DCGM exporter beside each endpoint."""

    path: _PagePath = "/metrics"
    port: Annotated[_Port, Field(description="Port of the exporter.")] = 9400
    interval: _Interval = None
    use_node_address: Annotated[
        bool,
        Field(description="Ask the endpoint's node instead of the endpoint; refused, since only Kubernetes knows the node."),
        AfterValidator(_without_node_address),
    ] = False


class CustomMetric(Section):
    """A series that becomes an attribute of the endpoint."""

    attribute_key: Annotated[Name, Field(description="Name of the attribute.")]
    metric_spec: Annotated[
        Name,
        Field(description="The series whose value it takes.", json_schema_extra={"expected": "a series as `name` or `name{label=value,…}`"}),
    ]


class EngineConfig(Section):
    """Names of one engine's series; specs are `name` or `name{label=value,...}`.

    From `firstTokensSpec` on they are ours: counters of first tokens, by which reserved prefill is released; of times and tokens, from which the engine's
    rates are learnt where answers are not seen; and of the prefix cache. Those may name several series, parted by `|`: the first that a page has counts.
    """

    name: Annotated[
        Name, Field(description="Name of the engine: the value of an endpoint's label engineLabelKey. A built-in one of this name is replaced.")
    ]
    queued_requests_spec: Annotated[_Spec, Field(description="Requests that wait in the engine.")] = None
    running_requests_spec: Annotated[_Spec, Field(description="Requests that run in the engine.")] = None
    kv_usage_spec: Annotated[_Spec, Field(description="Share of the KV cache that is in use, 0 to 1.")] = None
    lora_spec: Annotated[_Spec, Field(description="LoRA adapters, in the labels that vLLM writes.")] = None
    cache_info_spec: Annotated[_Spec, Field(description="Series with the cache's shape in its labels.")] = None
    cache_block_size_label_name: Annotated[str | None, Field(description="Label of cacheInfoSpec with the tokens of a block.")] = None
    cache_num_blocks_label_name: Annotated[str | None, Field(description="Label of cacheInfoSpec with the number of blocks.")] = None
    cache_block_size_spec: Annotated[_Spec, Field(description="Tokens of a block, where they are a series of their own.")] = None
    cache_num_blocks_spec: Annotated[_Spec, Field(description="Number of blocks, where it is a series of its own.")] = None
    first_tokens_spec: Annotated[_Counter, Field(description="Counter of first tokens, by which reserved prefill is released.")] = None
    first_token_seconds_spec: Annotated[_Counter, Field(description="Counter of the seconds to those first tokens, from the requests' arrival.")] = (
        None
    )
    token_gaps_spec: Annotated[_Counter, Field(description="Counter of the gaps between two tokens of a request.")] = None
    token_gap_seconds_spec: Annotated[_Counter, Field(description="Counter of these gaps' seconds.")] = None
    output_tokens_spec: Annotated[_Counter, Field(description="Counter of output tokens.")] = None
    finished_requests_spec: Annotated[_Counter, Field(description="Counter of requests that ended.")] = None
    queried_tokens_spec: Annotated[_Counter, Field(description="Counter of prompt tokens looked up in the prefix cache.")] = None
    cached_tokens_spec: Annotated[
        _Counter, Field(description="Counter of those that the cache had; with queriedTokensSpec it tells how right the prefix index is.")
    ] = None
    external_cached_tokens_spec: Annotated[
        _Counter, Field(description="Counter of those that memory beyond that cache had (the CPU's, another server's); they count as cached.")
    ] = None
    custom_metrics: list[CustomMetric] = Field(default=[], max_length=64, description="Further series, as attributes of the endpoint.")


class CoreMetricsExtractor(Section):
    """Which engine's names a metrics page uses; `engineConfigs` add engines or override built-in ones by name."""

    engine_label_key: Annotated[Name, Field(description="Label of an endpoint that names its engine.")] = "llm-d.ai/engine-type"
    default_engine: Annotated[Name, Field(description="Engine of endpoints without that label.")] = "vllm"
    engine_configs: list[EngineConfig] = Field(default=[], max_length=64, description="Engines beside the built-in ones, or in place of them.")


class FileDiscovery(Section):
    """Endpoints from a file."""

    path: Annotated[Name, Field(description="File with the endpoints, YAML or JSON.")]
    watch_file: Annotated[bool, Field(description="Follow changes of the file.")] = False


@dataclass(frozen=True, slots=True)
class PluginType:
    """A type of plugin: its extension point and its parameters.

    `reads`: the type of source whose pages an extractor understands. `alpha`: needs --allow-experimental-plugins. `produces`: data that
    plugins of the engine consume.
    """

    kind: Kind
    summary: str
    parameters: type[Section] = NoParameters
    reads: str | None = None
    alpha: bool = False
    produces: str | None = None


# As the engine names what extractors tell of endpoints.
_ATTRIBUTES = "endpoint attributes"

# Tells of endpoints that come and go; data producers may be bound to it.
NOTIFICATIONS = "endpoint-notification-source"

PLUGIN_TYPES: dict[str, PluginType] = {
    "metrics-data-source": PluginType(Kind.SOURCE, "Polls the metrics page of each endpoint.", MetricsDataSource),
    "models-data-source": PluginType(Kind.SOURCE, "Polls the list of models of each endpoint.", ModelsDataSource),
    "dcgm-data-source": PluginType(
        Kind.SOURCE, "Polls the metrics page of the DCGM exporter beside each endpoint: its GPUs' utilisation.", DcgmDataSource, alpha=True
    ),
    NOTIFICATIONS: PluginType(Kind.SOURCE, "Endpoints that come and go; the engine follows them by itself, so there is nothing to bind to it."),
    "core-metrics-extractor": PluginType(
        Kind.EXTRACTOR,
        "Reads queue, running requests, cache usage and shape, and LoRA adapters from a metrics page.",
        CoreMetricsExtractor,
        reads="metrics-data-source",
        produces=_ATTRIBUTES,
    ),
    "models-data-extractor": PluginType(Kind.EXTRACTOR, "Reads the ids of the models that an endpoint serves.", reads="models-data-source"),
    "dcgm-extractor": PluginType(
        Kind.EXTRACTOR, "Reads the utilisation of an endpoint's GPUs.", reads="dcgm-data-source", alpha=True, produces=_ATTRIBUTES
    ),
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
