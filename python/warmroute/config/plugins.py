"""The plugin types that a configuration may name, what each is for, and their parameters (names and defaults of the reference)."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pydantic import Field

from warmroute.config.models import Name, Section


class Kind(Enum):
    """The extension point of a plugin."""

    SCORER = "scorer"
    PICKER = "picker"
    PROFILE_HANDLER = "profile handler"
    PARSER = "parser"
    PRODUCER = "data producer"
    SOURCE = "data source"
    EXTRACTOR = "extractor"
    DISCOVERY = "discovery"


class NoParameters(Section):
    """A plugin without parameters."""


class PrefixCacheScorer(Section):
    """Weight of the matched length beside the matched ratio."""

    match_length_weight: float = Field(default=0.0, ge=0, le=1)
    match_length_scale_tokens: int = Field(default=8192, ge=1)


class TokenLoadScorer(Section):
    """In-flight tokens at which an endpoint scores 0."""

    queue_threshold_tokens: int = Field(default=4_194_304, ge=1)


class PickerParameters(Section):
    """How many endpoints the destination lists, best first; 0 or less means 1."""

    max_num_of_endpoints: int = Field(default=1, le=64)


class ApproxPrefixCacheProducer(Section):
    """The approximate prefix index. Sizes are taken from the engines' own metrics where they tell them (`autoTune`)."""

    auto_tune: Literal[True] = True
    block_size_tokens: int = Field(default=16, ge=1, le=1_048_576)
    max_prefix_tokens_to_match: int = Field(default=131_072, ge=0, le=2**31 - 1)
    lru_capacity_per_server: int = Field(default=31_250, ge=1, le=2**31 - 1)


class MetricsDataSource(Section):
    """The metrics page of each endpoint. `insecureSkipVerify` has no meaning over plain HTTP and is there for files that state it."""

    scheme: Literal["http"] = "http"
    path: str = Field(default="/metrics", pattern=r"^/[\x21-\x7e]*$", max_length=1024)
    port: int | None = Field(default=None, ge=1, le=65535)
    interval: str | None = None
    insecure_skip_verify: bool = True


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
    """A type of plugin: its extension point and its parameters."""

    kind: Kind
    parameters: type[Section] = NoParameters


PLUGIN_TYPES: dict[str, PluginType] = {
    "marginal-latency-scorer": PluginType(Kind.SCORER),
    "queue-scorer": PluginType(Kind.SCORER),
    "kv-cache-utilization-scorer": PluginType(Kind.SCORER),
    "prefix-cache-scorer": PluginType(Kind.SCORER, PrefixCacheScorer),
    "running-requests-size-scorer": PluginType(Kind.SCORER),
    "lora-affinity-scorer": PluginType(Kind.SCORER),
    "token-load-scorer": PluginType(Kind.SCORER, TokenLoadScorer),
    "max-score-picker": PluginType(Kind.PICKER, PickerParameters),
    "weighted-random-picker": PluginType(Kind.PICKER, PickerParameters),
    "random-picker": PluginType(Kind.PICKER, PickerParameters),
    "single-profile-handler": PluginType(Kind.PROFILE_HANDLER),
    "openai-parser": PluginType(Kind.PARSER),
    "anthropic-parser": PluginType(Kind.PARSER),
    "vllmhttp-parser": PluginType(Kind.PARSER),
    "passthrough-parser": PluginType(Kind.PARSER),
    "approx-prefix-cache-producer": PluginType(Kind.PRODUCER, ApproxPrefixCacheProducer),
    "metrics-data-source": PluginType(Kind.SOURCE, MetricsDataSource),
    "core-metrics-extractor": PluginType(Kind.EXTRACTOR, CoreMetricsExtractor),
    "file-discovery": PluginType(Kind.DISCOVERY, FileDiscovery),
}

# Engines whose series names the engine knows by itself.
BUILT_IN_ENGINES = ("vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton")

# Types of the reference that come with later work: refused, with a message that says so.
LATER_TYPES = frozenset(
    [
        "active-request-scorer",
        "agent-identity",
        "burst-prefix-cache-producer",
        "by-label",
        "by-label-selector",
        "context-length-aware",
        "data-parallel-profile-handler",
        "dcgm-data-source",
        "dcgm-extractor",
        "disagg-headers-handler",
        "disagg-profile-handler",
        "disaggregatedset-rollout-screener",
        "endpoint-attribute-filter",
        "endpoint-attribute-scorer",
        "endpoint-notification-source",
        "fcfs-ordering-policy",
        "global-strict-fairness-policy",
        "header-label-affinity-scorer",
        "header-profile-handler",
        "inflight-load-producer",
        "k8s-notification-source",
        "label-selector-filter",
        "latency-scorer",
        "latency-slo-admitter",
        "load-aware-scorer",
        "mm-embeddings-cache-producer",
        "mm-embeddings-cache-scorer",
        "models-data-extractor",
        "models-data-source",
        "multicluster-approx-prefix-cache-producer",
        "multicluster-file-discovery",
        "multicluster-kv-cache-utilization-scorer",
        "multicluster-metrics-data-source",
        "multicluster-metrics-extractor",
        "multicluster-prefix-cache-scorer",
        "multicluster-queue-scorer",
        "no-hit-lru-scorer",
        "p2p-source-producer",
        "pd-profile-handler",
        "precise-prefix-cache-producer",
        "precise-prefix-cache-scorer",
        "predicted-latency-producer",
        "prefill-header-handler",
        "prefix-cache-affinity-filter",
        "priority-holdback-policy",
        "priority-then-time-eviction-order-policy",
        "program-aware-fairness",
        "request-attribute-reporter",
        "session-affinity-filter",
        "session-affinity-scorer",
        "session-id-producer",
        "sglanghttp-parser",
        "sheddable-eviction-filter",
        "slo-headroom-tier-filter",
        "soft-reflective-ceiling-policy",
        "static-usage-limit-policy",
        "token-producer",
        "tokenizer",
        "topology-affinity-filter",
        "topology-affinity-scorer",
        "topology-extractor",
        "utilization-detector",
        "utilization-filter",
        "vertexai-parser",
        "vllmgrpc-parser",
    ]
)

# Parameters of the reference's plugins that come with later work, per plugin type.
LATER_PARAMETERS: dict[str, frozenset[str]] = {
    "prefix-cache-scorer": frozenset({"prefixMatchInfoProducerName"}),
    "token-load-scorer": frozenset({"inFlightLoadProducerName"}),
    "approx-prefix-cache-producer": frozenset({"blockSize", "maxPrefixBlocksToMatch"}),
    "metrics-data-source": frozenset({"caCertPath", "clientCertPath", "clientKeyPath"}),
    "core-metrics-extractor": frozenset({"customMetrics"}),
}
