"""EndpointPickerConfig: what a configuration means to the engine. The files themselves, with their errors, stand in tests/config."""

import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmroute.config import known_types
from warmroute.config.defaults import default_plan, resolve
from warmroute.config.document import parse_document, read_document
from warmroute.config.errors import ConfigError
from warmroute.config.flags import Flags, parse_flags
from warmroute.config.load import load_config
from warmroute.config.notices import log_notices
from warmroute.config.parameters import NONE
from warmroute.config.settings import engine_settings, policy_settings, scraper_settings
from warmroute.plugins import registry

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def plan_of(text, tick=0.05, **options):
    return resolve(load_config(parse_document(HEAD + dedent(text), "config.yaml"), **options), tick)


def errors_of(text, head=HEAD):
    with pytest.raises(ConfigError) as refused:
        resolve(load_config(parse_document(head + dedent(text), "config.yaml")), 0.05)
    return str(refused.value).splitlines()


def profiles_of(plan):
    return {profile.name: [(entry.plugin.type.name, entry.weight) for entry in profile.entries] for profile in plan.profiles}


def names_of(plan):
    return [plugin.name for plugin in plan.plugins]


def test_without_configuration_the_marginal_latency_policy_runs():
    plan = default_plan("marginal-latency")
    assert profiles_of(plan) == {"default": [("marginal-latency-scorer", 1.0), ("max-score-picker", None)]}
    assert (plan.min_block_tokens, [source.plugin.name for source in plan.sources]) == (128, ["metrics-data-source"])


def test_reference_policy_has_the_references_weights():
    plan = default_plan("reference")
    scorers = [("queue-scorer", 2.0), ("kv-cache-utilization-scorer", 2.0), ("prefix-cache-scorer", 3.0)]
    assert profiles_of(plan) == {"default": [*scorers, ("max-score-picker", None)]}
    assert plan.min_block_tokens == 64
    assert plan.effective.origins["schedulingProfiles[0].plugins[2].weight"] == "rule 1: no configuration is given (--policy reference)"


def test_configuration_that_says_nothing_of_scheduling_gets_the_default_policy():
    plan = plan_of("""\
        plugins: [{type: file-discovery, parameters: {path: /tmp/endpoints.yaml, watchFile: true}}]
        dataLayer: {discovery: {pluginRef: file-discovery}}
        """)
    assert profiles_of(plan) == profiles_of(default_plan("marginal-latency"))
    assert (plan.discovery.path, plan.discovery.watch_file) == ("/tmp/endpoints.yaml", True)  # noqa: S108 - never opened


def test_json_is_accepted():
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": [{"type": "queue-scorer"}]}
    plan = resolve(load_config(parse_document(json.dumps(document), "x")), 0.05)
    assert profiles_of(plan)["default"][0] == ("queue-scorer", 1.0)


def test_policy_names_what_is_configured_and_what_was_added_each_after_what_it_consumes():
    plan = plan_of("""\
        plugins:
        - {type: token-load-scorer, name: load, parameters: {queueThresholdTokens: 7}}
        - {type: label-selector-filter, name: zone, parameters: {matchLabels: {zone: a}}}
        - {type: random-picker, parameters: {maxNumOfEndpoints: 2}}
        - {type: passthrough-parser}
        schedulingProfiles: [{name: only, plugins: [{pluginRef: zone}, {pluginRef: load, weight: 2}]}]
        requestHandler: {parsers: [{pluginRef: passthrough-parser}]}
        """)
    policy = json.loads(policy_settings(plan))
    assert policy["profiles"] == [{"name": "only", "plugins": [{"plugin": "zone"}, {"plugin": "load", "weight": 2.0}, {"plugin": "random-picker"}]}]
    assert (policy["parsers"], policy["min_block_tokens"]) == (["passthrough-parser"], 64)
    plugins = {plugin["name"]: plugin for plugin in policy["plugins"]}
    assert plugins["load"] == {"type": "token-load-scorer", "name": "load", "parameters": {"queueThresholdTokens": 7}}
    assert "passthrough-parser" not in plugins
    names = names_of(plan)
    assert max(names.index("approx-prefix-cache-producer"), names.index("inflight-load-producer")) < names.index("load")
    assert names.index("token-producer") < names.index("approx-prefix-cache-producer")
    # The default parsers need not be said.
    assert "parsers" not in json.loads(policy_settings(default_plan("reference")))


def test_engine_settings_carry_the_flags():
    said = json.loads(engine_settings(parse_flags(["--explain", "--max-body=1Mi", "--disable-endpoint-subset-filter", "--max-endpoints=5"])))
    assert (said["max_endpoints"], said["max_body_bytes"], said["subset_filter"], said["explain"]) == (5, 2**20, False, True)
    assert json.loads(engine_settings(Flags()))["max_endpoints"] == 1


def test_no_metrics_are_collected_without_defaults_and_sources():
    assert scraper_settings(plan_of("dataLayer: {injectDefaults: false}"), Flags()) is None


def test_scraper_settings_carry_every_source_with_its_extractors():
    plan = plan_of(
        """\
        plugins:
        - {type: metrics-data-source, name: pages, parameters: {path: /m, port: 9100, interval: 150ms}}
        - type: core-metrics-extractor
          parameters: {defaultEngine: mine, engineConfigs: [{name: mine, queuedRequestsSpec: "q{a=b}", customMetrics: [{attributeKey: k, metricSpec: s}]}]}
        - {type: models-data-source, parameters: {scheme: https, insecureSkipVerify: false, caCertPath: ca.pem}}
        - {type: models-data-extractor, name: names}
        - {type: endpoint-notification-source}
        dataLayer:
          sources:
          - {pluginRef: models-data-source, extractors: [{pluginRef: names}]}
          - {pluginRef: endpoint-notification-source}
          - {pluginRef: pages, extractors: [{pluginRef: core-metrics-extractor}]}
        """
    )
    said = json.loads(scraper_settings(plan, Flags()))
    tls = {"client_cert_path": None, "client_key_path": None}
    assert said == {
        "interval_seconds": 0.05,
        "timeout_seconds": 1.0,
        "idle_backoff_seconds": 1.0,
        "sources": [
            {
                "name": "models-data-source",
                "type": "models-data-source",
                "scheme": "https",
                "path": "/v1/models",
                "port": None,
                "interval_seconds": None,
                "insecure_skip_verify": False,
                "ca_cert_path": "ca.pem",
                **tls,
                "extractors": [{"name": "names", "type": "models-data-extractor"}],
            },
            {
                "name": "pages",
                "type": "metrics-data-source",
                "scheme": "http",
                "path": "/m",
                "port": 9100,
                "interval_seconds": 0.15,
                "insecure_skip_verify": True,
                "ca_cert_path": None,
                **tls,
                "extractors": [
                    {
                        "name": "core-metrics-extractor",
                        "type": "core-metrics-extractor",
                        "engine_label_key": "llm-d.ai/engine-type",
                        "default_engine": "mine",
                        "engines": [{"name": "mine", "queuedRequestsSpec": "q{a=b}", "customMetrics": [{"attributeKey": "k", "metricSpec": "s"}]}],
                    }
                ],
            },
        ],
    }


def test_python_plugin_is_named_without_parameters_and_gets_the_data_its_arrays_are_made_of(monkeypatch):
    definition = registry.PluginDefinition("test-scorer", "scorer", lambda *_: [], None, "", "test")
    monkeypatch.setattr(registry, "_definitions", {"test-scorer": definition})
    plan = plan_of("plugins: [{type: test-scorer, name: mine}]")
    policy = json.loads(policy_settings(plan))
    assert {"type": "test-scorer", "name": "mine"} in policy["plugins"]
    assert plan.python_plugins == {"mine": (definition, None)}
    assert {"approx-prefix-cache-producer", "inflight-load-producer"} <= set(names_of(plan))


@pytest.mark.parametrize(
    ("types", "error"),
    [
        (
            {"a-producer": ("beta", "alpha"), "b-producer": ("alpha", "beta")},
            'config.yaml:3: plugins: "a-producer", "b-producer" consume what each other makes: none of them can run first',
        ),
        (
            {"a-producer": ("beta", "alpha")},
            'config.yaml:3: plugins[0].type: "a-producer" consumes beta; nothing makes it, and there is no default for that',
        ),
    ],
)
def test_data_that_cannot_be_made_is_told(monkeypatch, types, error):
    known = dict(known_types._built_in_types())
    for name, (consumes, produces) in types.items():
        known[name] = dataclasses.replace(known["approx-prefix-cache-producer"], name=name, consumes=(consumes,), produces=produces)
    monkeypatch.setattr(known_types, "_built_in_types", lambda: known)
    monkeypatch.setattr("warmroute.config.load.check_parameters", lambda *_: NONE)
    plugins = ", ".join(f"{{type: {name}}}" for name in types)
    assert errors_of(f"plugins: [{plugins}, {{type: random-picker}}]") == [error]


def test_what_is_deprecated_is_logged_once(caplog):
    logging.getLogger("warmroute").propagate = True
    plan = plan_of("plugins: [{type: queue-scorer}]\nparser: {pluginRef: openai-parser}\n")
    log_notices([*plan.notices, *plan.notices])
    assert [(record.message, record.fields) for record in caplog.records] == [
        (
            "configuration: deprecated",
            {"where": "config.yaml:4: parser", "given": "parser", "use": "requestHandler.parsers"},
        ),
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "config.yaml: expected a mapping with apiVersion and kind"),
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


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.sampled_from(known_types.known_names()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["plugins", "type", "name", "parameters", "pluginRef", "sources", "extractors"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    ANY_VALUE, ANY_VALUE, st.lists(st.fixed_dictionaries({"type": st.sampled_from(known_types.known_names()), "parameters": ANY_VALUE}), max_size=4)
)
def test_any_values_are_a_plan_whose_effective_form_is_a_configuration_or_a_config_error(value, other, plugins):
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": plugins,
        "schedulingProfiles": value,
        "dataLayer": other,
    }
    with contextlib.suppress(ConfigError):
        plan = resolve(load_config(parse_document(json.dumps(document), "x"), allow_experimental=True), 0.05)
        again = resolve(load_config(parse_document(plan.effective.as_yaml(), "x"), allow_experimental=True), 0.05)
        assert again.effective.data == plan.effective.data


def check(*arguments):
    command = [sys.executable, "-m", "warmroute", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_check_prints_the_effective_configuration_and_what_is_deprecated(tmp_path):
    path = tmp_path / "epp.yaml"
    path.write_text(HEAD + "plugins: [{type: queue-scorer}, {type: passthrough-parser}]\nparser: {pluginRef: passthrough-parser}\n")
    answer = check(str(path), "--output", "json")
    assert (answer.returncode, answer.stderr) == (0, f"warning: {path}:4: parser: parser is deprecated; write requestHandler.parsers\n")
    said = json.loads(answer.stdout)
    assert said["config"]["requestHandler"] == {"parsers": [{"pluginRef": "passthrough-parser"}]}
    assert said["origins"]["requestHandler.parsers[0].pluginRef"] == "line 4"
    assert said["origins"]["schedulingProfiles[0].plugins[0].weight"] == "default"
    again = check("--config-text", check(str(path)).stdout, "--output", "json")
    assert (json.loads(again.stdout)["config"], again.stderr) == (said["config"], "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--config-text", f"{HEAD}plugin: []"], '--config-text:3: plugin: unknown field "plugin" (did you mean "plugins"?)\n'),
        (["x.yaml", "--policy", "reference"], "warmroute check: a file, --config-text and --policy exclude each other\n"),
        (["--plugin-module", "no_such_module"], "warmroute check: plugin module no_such_module: there is no module 'no_such_module'; install it"),
    ],
)
def test_check_of_what_cannot_be_used_ends_with_status_2(arguments, error):
    answer = check(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(error)


def test_check_shows_the_policies():
    assert "rule 1: no configuration is given" in check("--policy", "reference").stdout
    assert "marginal-latency-scorer" in check().stdout
