"""The EndpointPickerConfig document: sections and fields, strict as the reference's decoder (an unknown field is an error)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

API_VERSION = "llm-d.ai/v1alpha1"
DEPRECATED_API_VERSION = "inference.networking.x-k8s.io/v1alpha1"
KIND = "EndpointPickerConfig"

Name = Annotated[str, Field(min_length=1, max_length=253)]


class Section(BaseModel):
    """Base of every section: camelCase in the document, no unknown fields, no silent conversion."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, frozen=True)

    #: Fields whose empty text stands for the default, as templates write it.
    empty_is_absent: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        # As in the reference's decoder: `plugins:` with nothing behind it is an empty list, not a mistake.
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {key: item for key, item in value.items() if not (item is None and key in known) and not (item == "" and key in cls.empty_is_absent)}


class PluginSpec(Section):
    """One plugin: `name` defaults to `type`."""

    empty_is_absent = frozenset({"name"})

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
    """A data source and what reads it."""

    plugin_ref: Name
    extractors: list[ExtractorRef] = []


class DiscoveryRef(Section):
    """What delivers the endpoints."""

    plugin_ref: Name


class DataLayer(Section):
    """Where endpoints and their metrics come from."""

    inject_defaults: bool = True
    sources: list[SourceRef] = []
    discovery: DiscoveryRef | None = None


class ParserRef(Section):
    """A parser of request bodies."""

    plugin_ref: Name


class RequestHandler(Section):
    """How request bodies are read."""

    parsers: list[ParserRef] = []


class SaturationDetectorRef(Section):
    """By what the pool counts as saturated."""

    empty_is_absent = frozenset({"pluginRef"})

    plugin_ref: Name | None = None


class EndpointPickerConfig(Section):
    """The whole document."""

    api_version: Literal["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"]
    kind: Literal["EndpointPickerConfig"]
    feature_gates: list[str] = []
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[SchedulingProfile] = []
    data_layer: DataLayer | None = None
    request_handler: RequestHandler | None = None
    saturation_detector: SaturationDetectorRef | None = None
    parser: ParserRef | None = None


# Fields of the reference's document that this version refuses by name: none is accepted and ignored.
LATER_FIELDS = frozenset(
    {
        "flowControl",
        "peerDiscovery",
        "crossReplicaSyncerPluginRef",
        "crossReplicaSyncInterval",
    }
)
