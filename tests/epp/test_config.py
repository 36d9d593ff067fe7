"""EndpointPickerConfig: what is accepted, what it means, and the exact words for what is wrong."""

import contextlib
import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.config.defaults import default_plan, resolve
from warmroute.config.document import parse_document, read_document
from warmroute.config.errors import ConfigError
from warmroute.config.flags import Flags, parse_flags
from warmroute.config.load import load_config
from warmroute.config.settings import engine_settings, scraper_settings

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def plan_of(text, tick=0.05):
    return resolve(load_config(parse_document(HEAD + dedent(text), "config.yaml")), tick)


def errors_of(text, head=HEAD):
    with pytest.raises(ConfigError) as refused:
        resolve(load_config(parse_document(head + dedent(text), "config.yaml")), 0.05)
    return str(refused.value).splitlines()


def profile_of(plan):
    return [(entry.plugin.type, entry.weight) for entry in plan.profile]


def test_without_configuration_the_marginal_latency_policy_runs():
    assert profile_of(default_plan("marginal-latency")) == [("marginal-latency-scorer", 1.0), ("max-score-picker", 1.0)]


def test_reference_policy_has_the_references_weights():
    assert profile_of(default_plan("reference")) == [
        ("queue-scorer", 2.0),
        ("kv-cache-utilization-scorer", 2.0),
        ("prefix-cache-scorer", 3.0),
        ("max-score-picker", 1.0),
    ]


def test_without_profiles_every_configured_scorer_counts_one():
    plan = plan_of("plugins: [{type: queue-scorer}, {type: prefix-cache-scorer, name: prefix}, {type: random-picker}]")
    assert profile_of(plan) == [("queue-scorer", 1.0), ("prefix-cache-scorer", 1.0), ("random-picker", 1.0)]


def test_profile_without_picker_reuses_the_configured_one():
    plan = plan_of("""\
        plugins: [{type: queue-scorer}, {type: weighted-random-picker, parameters: {maxNumOfEndpoints: 3}}]
        schedulingProfiles: [{name: default, plugins: [{pluginRef: queue-scorer, weight: 2.5}]}]
        """)
    assert profile_of(plan) == [("queue-scorer", 2.5), ("weighted-random-picker", 1.0)]
    assert plan.max_endpoints == 3


def test_configuration_that_says_nothing_of_scheduling_gets_the_default_policy():
    plan = plan_of("""\
        plugins: [{type: file-discovery, parameters: {path: /tmp/endpoints.yaml, watchFile: true}}]
        dataLayer: {discovery: {pluginRef: file-discovery}}
        """)
    assert profile_of(plan)[0] == ("marginal-latency-scorer", 1.0)
    assert (plan.discovery.path, plan.discovery.watch_file) == ("/tmp/endpoints.yaml", True)  # noqa: S108 - never opened


def test_deprecated_api_version_is_accepted():
    text = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
    assert load_config(parse_document(text, "x")).config.api_version.startswith("inference")


def test_references_own_default_file_is_accepted():
    plan = plan_of("""\
        plugins:
        - type: queue-scorer
        - type: kv-cache-utilization-scorer
        - type: prefix-cache-scorer
        - type: metrics-data-source
          parameters: {scheme: http, path: /metrics, insecureSkipVerify: true}
        - type: core-metrics-extractor
        schedulingProfiles:
        - name: default
          plugins:
          - {pluginRef: queue-scorer, weight: 2}
          - {pluginRef: kv-cache-utilization-scorer, weight: 2}
          - {pluginRef: prefix-cache-scorer, weight: 3}
        dataLayer:
          sources: [{pluginRef: metrics-data-source, extractors: [{pluginRef: core-metrics-extractor}]}]
        """)
    assert profile_of(plan) == profile_of(default_plan("reference"))


def test_json_is_accepted():
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": [{"type": "queue-scorer"}]}
    assert profile_of(resolve(load_config(parse_document(json.dumps(document), "x")), 0.05))[0] == ("queue-scorer", 1.0)


def test_no_metrics_are_collected_without_defaults_and_sources():
    assert scraper_settings(plan_of("dataLayer: {injectDefaults: false}"), Flags()) is None


def test_scraper_settings_carry_interval_and_engines():
    plan = plan_of("""\
        plugins:
        - type: metrics-data-source
          parameters: {path: /m, interval: 150ms}
        - type: core-metrics-extractor
          parameters: {defaultEngine: mine, engineConfigs: [{name: mine, queuedRequestsSpec: "q{a=b}"}]}
        """)
    settings = json.loads(scraper_settings(plan, Flags()))
    assert settings == {
        "interval_seconds": 0.15,
        "timeout_seconds": 1.0,
        "idle_backoff_seconds": 1.0,
        "sources": [
            {
                "name": "metrics-data-source",
                "type": "metrics-data-source",
                "scheme": "http",
                "path": "/m",
                "filter": True,
                "extractors": [
                    {
                        "name": "core-metrics-extractor",
                        "type": "core-metrics-extractor",
                        "engine_label_key": "llm-d.ai/engine-type",
                        "default_engine": "mine",
                        "engines": [{"name": "mine", "queuedRequestsSpec": "q{a=b}"}],
                    }
                ],
            }
        ],
    }


def test_engine_settings_carry_flags_and_parameters():
    plan = plan_of("""\
        plugins:
        - type: prefix-cache-scorer
          parameters: {matchLengthWeight: 0.5}
        - type: max-score-picker
          parameters: {maxNumOfEndpoints: 2}
        - type: approx-prefix-cache-producer
          parameters: {lruCapacityPerServer: 10, maxPrefixTokensToMatch: 0}
        """)
    settings = json.loads(engine_settings(plan, parse_flags(["--explain", "--max-body=1Mi", "--disable-endpoint-subset-filter"])))
    assert settings["profile"] == {
        "plugins": [
            {"type": "prefix-cache-scorer", "name": "prefix-cache-scorer", "weight": 1.0, "parameters": {"matchLengthWeight": 0.5}},
            {"type": "max-score-picker", "name": "max-score-picker", "parameters": {}},
        ],
    }
    assert (settings["max_endpoints"], settings["max_body_bytes"], settings["subset_filter"], settings["explain"]) == (2, 2**20, False, True)
    assert (settings["lru_capacity_per_endpoint"], settings["max_prefix_tokens"]) == (10, 2**31 - 1)
    assert json.loads(engine_settings(plan, parse_flags(["--max-endpoints=5"])))["max_endpoints"] == 5


LATER = "is known to the reference picker and not supported by this version of warmroute"


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("plugin: []", ['config.yaml:3: plugin: unknown field "plugin" (did you mean "plugins"?)']),
        ("flowControl: {maxRequests: 3}", [f'config.yaml:3: flowControl: "flowControl" {LATER}']),
        ("featureGates: [flowControl]", [f'config.yaml:3: featureGates: "featureGates" {LATER}']),
        (
            "plugins:\n- type: queue-scorer\n- type: queue-scorrer\n- type: latency-scorer\n",
            [
                'config.yaml:5: plugins[1].type: unknown plugin type "queue-scorrer" (did you mean "queue-scorer"?)',
                f'config.yaml:6: plugins[2].type: plugin type "latency-scorer" {LATER}',
            ],
        ),
        ("plugins:\n- name: x\n", ["config.yaml:4: plugins[0].type: required and missing"]),
        ("plugins:\n- type: queue-scorer\n- type: queue-scorer\n", ['config.yaml:5: plugins[1].type: a second plugin named "queue-scorer"']),
        (
            "plugins:\n- type: prefix-cache-scorer\n  parameters:\n    matchLengthWeight: 2\n    matchLengthScale: 1\n    prefixMatchInfoProducerName: p\n",
            [
                "config.yaml:6: plugins[0].parameters.matchLengthWeight: input should be less than or equal to 1, not 2",
                'config.yaml:7: plugins[0].parameters.matchLengthScale: unknown field "matchLengthScale" (did you mean "matchLengthScaleTokens"?)',
                f'config.yaml:8: plugins[0].parameters.prefixMatchInfoProducerName: "prefixMatchInfoProducerName" {LATER}',
            ],
        ),
        (
            "plugins: [{type: queue-scorer, parameters: {depth: 1}}]",
            ['config.yaml:3: plugins[0].parameters.depth: unknown field "depth"'],
        ),
        (
            "plugins: [{type: queue-scorer}]\nschedulingProfiles:\n- name: a\n  plugins:\n  - pluginRef: queue-scorrer\n",
            ['config.yaml:7: schedulingProfiles[0].plugins[0].pluginRef: no plugin is named "queue-scorrer" (did you mean "queue-scorer"?)'],
        ),
        (
            "plugins: [{type: openai-parser}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: openai-parser}]}]\n",
            ['config.yaml:4: schedulingProfiles[0].plugins[0].pluginRef: "openai-parser" is a parser; a scorer or picker is expected here'],
        ),
        (
            "schedulingProfiles: [{name: a}, {name: b}]",
            ["config.yaml:3: schedulingProfiles[1]: a second profile: this version runs one (several come with disaggregated serving)"],
        ),
        (
            "plugins: [{type: random-picker}, {type: max-score-picker}]",
            ["config.yaml:3: plugins: more than one picker (random-picker, max-score-picker); a profile has one"],
        ),
        (
            "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: -1}]}]\n",
            ["config.yaml:4: schedulingProfiles[0].plugins[0].weight: a weight is not negative, not -1.0"],
        ),
        (
            "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: heavy}]}]\n",
            ["config.yaml:4: schedulingProfiles[0].plugins[0].weight: input should be a valid number, not 'heavy'"],
        ),
        (
            "plugins: [{type: openai-parser}]\nrequestHandler: {parsers: [{pluginRef: openai-parser}]}\n",
            [
                (
                    "config.yaml:4: requestHandler.parsers: leaves out anthropic-parser, passthrough-parser, vllmhttp-parser: "
                    "this version runs all four parsers and cannot switch one off"
                ),
            ],
        ),
        (
            "plugins:\n- type: metrics-data-source\n  parameters: {interval: 70ms}\n",
            [
                "config.yaml:5: plugins[0].parameters.interval: must be a positive multiple of the scrape tick (50ms, --refresh-metrics-interval), not 70ms",
            ],
        ),
        (
            "plugins: [{type: metrics-data-source, parameters: {scheme: https}}]",
            ["config.yaml:3: plugins[0].parameters.scheme: must be 'http', not 'https'"],
        ),
        (
            "plugins: [{type: core-metrics-extractor, parameters: {defaultEngine: vlm}}]",
            [
                (
                    'config.yaml:3: plugins: defaultEngine "vlm" is neither built in nor in engineConfigs '
                    "(known: vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton)"
                ),
            ],
        ),
        (
            "plugins: [{type: file-discovery, parameters: {path: x}}]",
            ["config.yaml:3: plugins: file-discovery is configured and not used: name it in dataLayer.discovery.pluginRef"],
        ),
        ("plugins: []\nplugins: []", ["config.yaml:4: plugins: given twice"]),
        ("plugins: [", ["config.yaml:4: not valid YAML: did not find expected node content"]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, errors):
    assert errors_of(text) == errors


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "config.yaml: expected a mapping with apiVersion and kind"),
        ("- 1", "config.yaml:1: expected a mapping with apiVersion and kind"),
        (
            "apiVersion: v1\nkind: EndpointPickerConfig",
            "config.yaml:1: apiVersion: must be 'llm-d.ai/v1alpha1' or 'inference.networking.x-k8s.io/v1alpha1', not 'v1'",
        ),
        ("apiVersion: llm-d.ai/v1alpha1", "config.yaml:1: kind: required and missing"),
        (f"{HEAD}---\n{HEAD}", "config.yaml:3: a second document (---); one is expected"),
    ],
)
def test_what_is_no_configuration(text, error):
    assert errors_of(text, head="") == [error]


def test_hostile_nesting_and_aliases_are_refused_not_fatal():
    for text in ("[" * 1_000_000, "a: &a [*a]", "\n".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9) if i else 1}]" for i in range(20))):
        with pytest.raises(ConfigError):
            parse_document(text, "x")


def test_missing_file_and_oversized_file_are_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_document(tmp_path / "missing.yaml")
    large = tmp_path / "large.yaml"
    large.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        read_document(large)


@given(st.text(max_size=60))
def test_any_text_is_a_document_or_a_config_error(text):
    with contextlib.suppress(ConfigError):
        load_config(parse_document(text, "x"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["plugins", "type", "name", "pluginRef", "dataLayer"]), inner, max_size=3)
        ),
        max_leaves=12,
    ),
)
def test_any_values_are_a_plan_or_a_config_error(value):
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": value, "schedulingProfiles": value}
    with contextlib.suppress(ConfigError):
        resolve(load_config(parse_document(json.dumps(document), "x")), 0.05)
