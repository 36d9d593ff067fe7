"""The EndpointPickerConfig document: sections and fields, strict as the reference's decoder (an unknown field is an error)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

API_VERSION = "llm-d.ai/v1alpha1"
DEPRECATED_API_VERSION = "inference.networking.x-k8s.io/v1alpha1"

Name = Annotated[str, Field(min_length=1, max_length=253)]


class Section(BaseModel):
    """Base of every section: camelCase in the document, no unknown fields, no silent conversion."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)


class PluginSpec(Section):
    """One plugin: `name` defaults to `type`."""

    type: Name
    name: Name | None = None
    parameters: dict[str, Any] | None = None


class ProfilePlugin(Section):
    """A plugin's place in a profile."""

    plugin_ref: Name
    weight: float | None = Field(default=None, allow_inf_nan=False)


class SchedulingProfile(Section):
    """Filters, scorers and a picker, in listed order."""

    name: Name
    plugins: list[ProfilePlugin] = []


class ExtractorRef(Section):
    """Which extractor reads a source."""

    plugin_ref: Name


class SourceRef(Section):
    """A metrics source and what reads it."""

    plugin_ref: Name
    extractors: list[ExtractorRef] = []


class DiscoveryRef(Section):
    """What delivers the endpoints."""

    plugin_ref: Name


class DataLayer(Section):
    """Where endpoints and their metrics come from."""

    inject_defaults: bool = True
    sources: list[SourceRef] | None = None
    discovery: DiscoveryRef | None = None


class ParserRef(Section):
    """A parser of request bodies."""

    plugin_ref: Name


class RequestHandler(Section):
    """How request bodies are read."""

    parsers: list[ParserRef] | None = None


class EndpointPickerConfig(Section):
    """The whole document."""

    api_version: Literal["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"]
    kind: Literal["EndpointPickerConfig"]
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[SchedulingProfile] = []
    data_layer: DataLayer | None = None
    request_handler: RequestHandler | None = None


# Fields of the reference's document that this version refuses by name: none is accepted and ignored.
LATER_FIELDS = frozenset(
    {
        "featureGates",
        "flowControl",
        "saturationDetector",
        "parser",
        "peerDiscovery",
        "crossReplicaSyncerPluginRef",
        "crossReplicaSyncInterval",
    }
)
