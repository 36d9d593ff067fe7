//! The scanner of metrics pages: a recorded page, the formats it must bear with, and a naive parser as its oracle.

use std::collections::BTreeMap;

use proptest::prelude::*;
use warmroute_core::pool::{
    CustomMetric, EngineDefinition, EngineMetrics, EngineSpec, MetricsPage, PageError,
};

/// Recorded from a real vLLM 0.32 server while one `LoRA` request ran (source: the project's recordings, `vllm-0.32/metrics-loaded.txt`).
const RECORDED: &[u8] = include_bytes!("data/vllm-0.32-metrics-loaded.txt");

fn vllm() -> &'static EngineSpec {
    EngineSpec::named("vllm").expect("built in")
}

fn scan(page: &str) -> EngineMetrics {
    MetricsPage::scan(page.as_bytes(), vllm()).expect("a metrics page")
}

#[test]
fn the_recorded_page_says_what_the_server_said() {
    let metrics = MetricsPage::scan(RECORDED, vllm()).expect("a metrics page");
    let expected = EngineMetrics {
        waiting: Some(0.0),
        running: Some(1.0),
        kv_usage: Some(9.155_413_138_017_82e-5),
        block_size: Some(32),
        num_blocks: Some(65536),
        running_adapters: vec!["a1".into()],
        waiting_adapters: vec![],
        max_adapters: Some(2),
        first_tokens: Some(4.0),
        first_token_seconds: Some(0.081_971_168_518_066_4),
        token_gaps: Some(178.0),
        token_gap_seconds: Some(0.572_823_179_000_124_6),
        output_tokens: Some(182.0),
        finished_requests: Some(3.0),
        queried_tokens: Some(462.0),
        cached_tokens: Some(192.0),
    };
    assert_eq!(metrics, expected);
    assert!(!MetricsPage::is_filtered(RECORDED, vllm()));
}

#[test]
fn data_parallel_ranks_are_summed_and_their_cache_usage_averaged() {
    let metrics = scan(
        "vllm:num_requests_waiting{engine=\"0\"} 3\nvllm:num_requests_waiting{engine=\"1\"} 4\n\
         vllm:kv_cache_usage_perc{engine=\"0\"} 0.2\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.6\n\
         vllm:cache_config_info{engine=\"0\",block_size=\"16\",num_gpu_blocks=\"100\"} 1\n\
         vllm:cache_config_info{engine=\"1\",block_size=\"16\",num_gpu_blocks=\"100\"} 1\n",
    );
    assert_eq!(
        (
            metrics.waiting,
            metrics.kv_usage,
            metrics.block_size,
            metrics.num_blocks
        ),
        (Some(7.0), Some(0.4), Some(16), Some(200))
    );
}

#[test]
fn counters_are_summed_over_ranks_and_reasons() {
    let metrics = scan(
        "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\"} 3\n\
         vllm:request_success_total{engine=\"0\",finished_reason=\"length\"} 4\n\
         vllm:request_success_total{engine=\"1\",finished_reason=\"stop\"} 5\n\
         vllm:request_success_created{engine=\"0\",finished_reason=\"stop\"} 1.7e9\n\
         vllm:generation_tokens_total{engine=\"0\"} 100\nvllm:generation_tokens_total{engine=\"1\"} 50\n\
         vllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"+Inf\"} 9\n\
         vllm:time_to_first_token_seconds_sum{engine=\"0\"} 1.5\nvllm:time_to_first_token_seconds_sum{engine=\"1\"} 2.5\n\
         vllm:time_to_first_token_seconds_count{engine=\"0\"} 9\nvllm:time_to_first_token_seconds_count{engine=\"1\"} 4\n",
    );
    assert_eq!(
        (
            metrics.finished_requests,
            metrics.output_tokens,
            metrics.first_tokens,
            metrics.first_token_seconds,
        ),
        (Some(12.0), Some(150.0), Some(13.0), Some(4.0))
    );
}

#[test]
fn of_an_older_and_a_newer_name_the_newer_counts_wherever_it_stands() {
    let older = "vllm:time_per_output_token_seconds_count{engine=\"0\"} 7\nvllm:time_per_output_token_seconds_count{engine=\"1\"} 8\n\
        vllm:time_per_output_token_seconds_sum 0.5\n";
    let newer =
        "vllm:inter_token_latency_seconds_count 9\nvllm:inter_token_latency_seconds_sum 0.75\n";
    for (page, expected) in [
        (older.to_owned(), (Some(15.0), Some(0.5))),
        (format!("{older}{newer}"), (Some(9.0), Some(0.75))),
        (format!("{newer}{older}"), (Some(9.0), Some(0.75))),
    ] {
        let metrics = scan(&page);
        assert_eq!(
            (metrics.token_gaps, metrics.token_gap_seconds),
            expected,
            "{page}"
        );
    }
}

#[test]
fn a_counter_may_have_up_to_eight_names_and_a_gauge_one() {
    let counter = |text: String| {
        EngineSpec::new(&EngineDefinition {
            name: "mine".into(),
            output_tokens_spec: text,
            ..EngineDefinition::default()
        })
    };
    let names = |count: usize| vec!["tokens"; count].join(" | ");
    assert!(counter(names(8)).is_ok());
    assert_eq!(
        counter(names(9)).expect_err("nine").to_string(),
        format!(
            "engine \"mine\": outputTokensSpec {:?}: more than eight series tell one thing",
            names(9)
        )
    );
    assert!(counter("tokens|".into()).is_err());
    let gauge = EngineSpec::new(&EngineDefinition {
        name: "mine".into(),
        queued_requests_spec: "a|b".into(),
        ..EngineDefinition::default()
    });
    assert_eq!(gauge.expect_err("two names").reason, "not a metric name");
}

#[test]
fn the_newest_adapter_series_counts() {
    let metrics = scan(
        "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"b, c\",waiting_lora_adapters=\"c,d\"} 1.7e9\n\
         vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"a\",waiting_lora_adapters=\"\"} 1.6e9\n",
    );
    assert_eq!(metrics.running_adapters, ["b".into(), "c".into()]);
    assert_eq!(metrics.waiting_adapters, ["d".into()]);
}

#[test]
fn formats_in_the_wild_are_borne_with() {
    for (line, running) in [
        ("vllm:num_requests_running 2", Some(2.0)),
        ("vllm:num_requests_running\t2\r", Some(2.0)),
        (
            "  vllm:num_requests_running { engine = \"0\" , } 2e0 1700000000000",
            Some(2.0),
        ),
        (
            "vllm:num_requests_running{model=\"a\\\"}, \\\\\"} 2 # {trace=\"x\"} 1",
            Some(2.0),
        ),
        ("vllm:num_requests_running NaN", None),
        ("vllm:num_requests_running +Inf", None),
        ("vllm:num_requests_running -1", Some(0.0)),
        ("vllm:num_requests_running two", None),
        ("vllm:num_requests_running{engine=\"0\" 2", None),
        ("vllm:num_requests_running{engine=\"0", None),
        ("vllm:num_requests_running{engine=\"0\\", None),
        ("vllm:num_requests_running", None),
        ("vllm:num_requests_running_total 2", None),
    ] {
        let page = format!("# HELP x y\n{line}\n# EOF\n");
        assert_eq!(scan(&page).running, running, "{line:?}");
        assert_eq!(
            scan(&format!("# x\n{line}")).running,
            running,
            "without a last newline: {line:?}"
        );
    }
}

#[test]
fn label_filters_tell_series_of_one_name_apart() {
    let spec = EngineSpec::named("triton-tensorrt-llm").expect("built in");
    let page = b"nv_trt_llm_request_metrics{model=\"m\",request_type=\"waiting\"} 3\n\
        nv_trt_llm_request_metrics{model=\"m\",request_type=\"scheduled\"} 5\n\
        nv_trt_llm_request_metrics{model=\"m\",request_type=\"max\"} 512\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.25\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"} 64\n\
        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"} 6239\n";
    let metrics = MetricsPage::scan(page, spec).expect("a metrics page");
    assert_eq!(
        (metrics.waiting, metrics.running, metrics.kv_usage),
        (Some(3.0), Some(5.0), Some(0.25))
    );
    assert_eq!(
        (metrics.block_size, metrics.num_blocks),
        (Some(64), Some(6239))
    );
}

#[test]
fn other_engines_are_read_by_their_own_names() {
    let sglang = b"sglang:num_queue_reqs{model_name=\"m\"} 1.0\nsglang:num_running_reqs{} 2.0\nsglang:token_usage 0.28\n\
        sglang:cache_config_info{page_size=\"64\",num_pages=\"5000\"} 1.0\nsglang:time_to_first_token_seconds_count{} 11\n\
        sglang:time_to_first_token_seconds_sum{model_name=\"m\"} 2.5\nsglang:inter_token_latency_seconds_bucket{le=\"0.002\"} 3\n\
        sglang:inter_token_latency_seconds_count 400\nsglang:inter_token_latency_seconds_sum 6\nsglang:generation_tokens_total 411\n\
        sglang:num_requests_total{is_streaming=\"true\"} 4\nsglang:num_requests_total{is_streaming=\"false\"} 3\n";
    let metrics = MetricsPage::scan(sglang, EngineSpec::named("sglang").expect("built in"))
        .expect("a metrics page");
    assert_eq!(
        (metrics.waiting, metrics.running, metrics.kv_usage),
        (Some(1.0), Some(2.0), Some(0.28))
    );
    assert_eq!(
        (metrics.block_size, metrics.num_blocks, metrics.first_tokens),
        (Some(64), Some(5000), Some(11.0))
    );
    assert_eq!(
        (
            metrics.first_token_seconds,
            metrics.token_gaps,
            metrics.token_gap_seconds,
            metrics.output_tokens,
            metrics.finished_requests
        ),
        (Some(2.5), Some(400.0), Some(6.0), Some(411.0), Some(7.0))
    );
    let trtllm = b"trtllm_num_requests_waiting 1\ntrtllm_num_requests_running 2\ntrtllm_kv_cache_utilization 0.5\n\
        trtllm_kv_cache_tokens_per_block 32\ntrtllm_kv_cache_max_blocks 900\n\
        trtllm_time_to_first_token_seconds_count 5\ntrtllm_time_per_output_token_seconds_sum 0.25\ntrtllm_request_success_total{finished_reason=\"stop\"} 5\n";
    let metrics = MetricsPage::scan(trtllm, EngineSpec::named("trtllm-serve").expect("built in"))
        .expect("a metrics page");
    assert_eq!(
        (
            metrics.waiting,
            metrics.running,
            metrics.block_size,
            metrics.num_blocks
        ),
        (Some(1.0), Some(2.0), Some(32), Some(900))
    );
    assert_eq!(
        (
            metrics.first_tokens,
            metrics.token_gap_seconds,
            metrics.finished_requests
        ),
        (Some(5.0), Some(0.25), Some(5.0))
    );
    let triton = b"nv_inference_pending_request_count{model=\"m\"} 6\nnv_inference_exec_count{model=\"m\"} 7\n";
    let metrics = MetricsPage::scan(triton, EngineSpec::named("triton").expect("built in"))
        .expect("a metrics page");
    assert_eq!((metrics.waiting, metrics.running), (Some(6.0), Some(7.0)));
}

#[test]
fn what_is_no_metrics_page_is_an_error() {
    for page in [
        "<!DOCTYPE html><html>",
        "{\"detail\":\"Not Found\"}",
        "Not Found",
        "404 page not found\n",
        "[]",
        "up",
        "\u{0}\u{1}",
    ] {
        assert_eq!(
            MetricsPage::scan(page.as_bytes(), vllm()),
            Err(PageError::NotMetrics),
            "{page:?}"
        );
    }
    for page in ["", "\n", " \r\n\n"] {
        assert_eq!(
            MetricsPage::scan(page.as_bytes(), vllm()),
            Err(PageError::Empty),
            "{page:?}"
        );
    }
    assert_eq!(scan("up 1\n"), EngineMetrics::default());
}

#[test]
fn a_filtered_page_is_told_from_a_whole_one() {
    let wanted = "# HELP vllm:num_requests_running x\n# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\"} 1\n";
    assert!(MetricsPage::is_filtered(wanted.as_bytes(), vllm()));
    assert!(MetricsPage::is_filtered(b"# TYPE vllm:time_to_first_token_seconds histogram\nvllm:time_to_first_token_seconds_count 1\n# EOF\n", vllm()));
    assert!(!MetricsPage::is_filtered(
        format!("{wanted}python_info 1\n").as_bytes(),
        vllm()
    ));
}

/// A line-by-line reading with none of the scanner's short cuts; for well-formed lines only.
#[expect(clippy::too_many_lines, reason = "one series a line")]
fn naive(page: &str) -> EngineMetrics {
    let mut metrics = EngineMetrics::default();
    let mut usage = Vec::new();
    let mut older = (None, None);
    let mut newest = f64::NEG_INFINITY;
    for line in page
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        let mut name = String::new();
        let mut labels = BTreeMap::new();
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next_if(|character| !"{ \t".contains(*character)) {
            name.push(character);
        }
        if characters.peek() == Some(&'{') {
            characters.next();
            while characters.peek().is_some_and(|character| *character != '}') {
                let label: String =
                    std::iter::from_fn(|| characters.next_if(|character| *character != '='))
                        .collect();
                assert_eq!(
                    (characters.next(), characters.next()),
                    (Some('='), Some('"'))
                );
                let mut value = String::new();
                loop {
                    match characters.next().expect("a closing quote") {
                        '"' => break,
                        '\\' => {
                            value.push(match characters.next().expect("an escaped character") {
                                'n' => '\n',
                                other => other,
                            });
                        }
                        other => value.push(other),
                    }
                }
                labels.insert(label, value);
                characters.next_if(|character| *character == ',');
            }
            characters.next();
        }
        let rest: String = characters.collect();
        let Some(value) = rest
            .split_whitespace()
            .next()
            .and_then(|value| value.parse::<f64>().ok())
            .filter(|value| value.is_finite())
        else {
            continue;
        };
        let value = value.max(0.0);
        let number = |label: &str| {
            labels
                .get(label)
                .and_then(|text| text.parse::<u32>().ok())
                .filter(|number| *number > 0)
        };
        let list = |label: &str| -> Vec<Box<str>> {
            let text = labels.get(label).map_or("", String::as_str);
            text.split(',')
                .map(str::trim)
                .filter(|adapter| !adapter.is_empty())
                .map(Into::into)
                .collect()
        };
        let add = |sum: &mut Option<f64>| *sum = Some((sum.unwrap_or(0.0) + value).min(f64::MAX));
        match name.as_str() {
            "vllm:num_requests_waiting" => add(&mut metrics.waiting),
            "vllm:num_requests_running" => add(&mut metrics.running),
            "vllm:time_to_first_token_seconds_count" => add(&mut metrics.first_tokens),
            "vllm:time_to_first_token_seconds_sum" => add(&mut metrics.first_token_seconds),
            "vllm:inter_token_latency_seconds_count" => add(&mut metrics.token_gaps),
            "vllm:inter_token_latency_seconds_sum" => add(&mut metrics.token_gap_seconds),
            "vllm:time_per_output_token_seconds_count" => add(&mut older.0),
            "vllm:time_per_output_token_seconds_sum" => add(&mut older.1),
            "vllm:generation_tokens_total" => add(&mut metrics.output_tokens),
            "vllm:request_success_total" => add(&mut metrics.finished_requests),
            "vllm:prefix_cache_queries_total" => add(&mut metrics.queried_tokens),
            "vllm:prefix_cache_hits_total" | "vllm:external_prefix_cache_hits_total" => {
                add(&mut metrics.cached_tokens);
            }
            "vllm:kv_cache_usage_perc" => usage.push(value.min(1.0)),
            "vllm:cache_config_info" => {
                metrics.block_size = metrics.block_size.or(number("block_size"));
                if let Some(blocks) = number("num_gpu_blocks") {
                    metrics.num_blocks =
                        Some(metrics.num_blocks.unwrap_or(0).saturating_add(blocks));
                }
            }
            "vllm:lora_requests_info" if value >= newest => {
                newest = value;
                metrics.running_adapters = list("running_lora_adapters");
                metrics.waiting_adapters = list("waiting_lora_adapters");
                metrics.max_adapters = labels.get("max_lora").and_then(|text| text.parse().ok());
            }
            _ => {}
        }
    }
    metrics
        .waiting_adapters
        .retain(|adapter| !metrics.running_adapters.contains(adapter));
    metrics.token_gaps = metrics.token_gaps.or(older.0);
    metrics.token_gap_seconds = metrics.token_gap_seconds.or(older.1);
    metrics.kv_usage = (!usage.is_empty()).then(|| usage.iter().sum::<f64>() / usage.len() as f64);
    metrics
}

#[test]
fn the_naive_parser_agrees_on_the_recorded_page() {
    let page = str::from_utf8(RECORDED).expect("UTF-8");
    assert_eq!(naive(page), scan(page));
}

fn line() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("vllm:num_requests_waiting".to_owned()),
        Just("vllm:num_requests_running".to_owned()),
        Just("vllm:num_requests_waiting_by_reason".to_owned()),
        Just("vllm:kv_cache_usage_perc".to_owned()),
        Just("vllm:lora_requests_info".to_owned()),
        Just("vllm:cache_config_info".to_owned()),
        Just("vllm:time_to_first_token_seconds_count".to_owned()),
        Just("vllm:prefix_cache_hits_total".to_owned()),
        Just("vllm:external_prefix_cache_hits_total".to_owned()),
        Just("vllm:time_to_first_token_seconds_sum".to_owned()),
        Just("vllm:inter_token_latency_seconds_sum".to_owned()),
        Just("vllm:inter_token_latency_seconds_count".to_owned()),
        Just("vllm:time_per_output_token_seconds_sum".to_owned()),
        Just("vllm:time_per_output_token_seconds_count".to_owned()),
        Just("vllm:generation_tokens_total".to_owned()),
        Just("vllm:request_success_total".to_owned()),
        "[a-z_:]{1,12}",
    ];
    let label = prop_oneof![
        Just("engine"),
        Just("block_size"),
        Just("num_gpu_blocks"),
        Just("max_lora"),
        Just("running_lora_adapters"),
        Just("waiting_lora_adapters")
    ];
    let value = prop_oneof![
        "[0-9]{1,7}",
        "[a-c, ]{0,6}",
        r#"([a-z{}=,# é]|\\n|\\"|\\\\){0,10}"#
    ];
    let labels = proptest::collection::btree_map(label, value, 0..5);
    let number = prop_oneof![
        Just("NaN".to_owned()),
        Just("+Inf".to_owned()),
        Just("-Inf".to_owned()),
        any::<u32>().prop_map(|number| number.to_string()),
        (0.0..2.0f64).prop_map(|number| format!("{number:e}")),
        any::<f64>().prop_map(|number| format!("{number:?}")),
    ];
    let sample = (name, labels, number, any::<bool>(), any::<bool>()).prop_map(
        |(name, labels, number, comma, timestamp)| {
            let mut text: Vec<String> = labels
                .into_iter()
                .map(|(label, value)| format!("{label}=\"{value}\""))
                .collect();
            if comma && !text.is_empty() {
                text.push(String::new());
            }
            let labels = if text.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", text.join(","))
            };
            format!(
                "{name}{labels} {number}{}",
                if timestamp { " 1700000000000" } else { "" }
            )
        },
    );
    prop_oneof![8 => sample, 1 => "# [A-Z]{4} vllm:num_requests_waiting [a-z]{0,9}", 1 => Just(String::new())]
}

proptest! {
    #[test]
    fn the_scanner_agrees_with_the_naive_parser(lines in proptest::collection::vec(line(), 0..30), crlf in any::<bool>()) {
        let page = format!("# HELP a b\n{}", lines.join(if crlf { "\r\n" } else { "\n" }));
        prop_assert_eq!(scan(&page), naive(&page));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for spec in EngineSpec::built_in() {
            let _ = MetricsPage::scan(&bytes, spec);
            let _ = MetricsPage::is_filtered(&bytes, spec);
        }
    }

    #[test]
    fn a_damaged_page_is_read_without_a_panic(cut in 0..RECORDED.len(), at in 0..RECORDED.len(), byte in any::<u8>()) {
        let mut page = RECORDED[..cut].to_vec();
        if let Some(place) = page.get_mut(at) {
            *place = byte;
        }
        let _ = MetricsPage::scan(&page, vllm());
    }
}

#[test]
fn a_configured_engine_may_have_one_short_name() {
    let definition = EngineDefinition {
        name: "mine".into(),
        queued_requests_spec: "q".into(),
        ..EngineDefinition::default()
    };
    let spec = EngineSpec::new(&definition).expect("a valid definition");
    assert_eq!(
        MetricsPage::scan(b"q 4", &spec)
            .expect("a metrics page")
            .waiting,
        Some(4.0)
    );
    assert_eq!(
        MetricsPage::scan(b"qq 4\nq 5\n", &spec)
            .expect("a metrics page")
            .waiting,
        Some(5.0)
    );
}

#[test]
fn the_recorded_page_lacks_nothing_that_is_asked_for() {
    let reading = MetricsPage::read(RECORDED, vllm()).expect("a metrics page");
    assert!(reading.missing.is_empty() && !reading.found.is_empty());
    assert!(reading.custom.is_empty());
}

#[test]
fn custom_metrics_are_read_beside_the_engines_own() {
    let custom = |key: &str, spec: &str| CustomMetric {
        attribute_key: key.into(),
        metric_spec: spec.into(),
    };
    let spec = EngineSpec::new(&EngineDefinition {
        name: "mine".into(),
        queued_requests_spec: "queue".into(),
        custom_metrics: vec![
            custom("queue-of-high", "queue{class=\"high\"}"),
            custom("drift", "clock_drift_seconds"),
            custom("absent", "nowhere"),
        ],
        ..EngineDefinition::default()
    })
    .expect("a good definition");
    let page = b"queue{class=\"low\"} 4\nqueue{class=\"high\"} 1\nqueue{class=\"high\"} 2\n\
        clock_drift_seconds -0.5\nclock_drift_seconds{rank=\"1\"} 9\nother 1\n";
    let reading = MetricsPage::read(page, &spec).expect("a metrics page");
    let keys: Vec<&str> = spec.custom_keys().iter().map(AsRef::as_ref).collect();
    assert_eq!(keys, ["absent", "drift", "queue-of-high"]);
    assert_eq!(reading.custom.as_slice(), [None, Some(-0.5), Some(1.0)]);
    assert_eq!(reading.metrics.waiting, Some(7.0));
    assert_eq!(
        spec.describe(reading.missing),
        "nowhere (custom metric \"absent\")"
    );
    assert!(spec.families().contains(&"clock_drift_seconds"));
}

#[test]
fn what_a_page_lacks_is_named_except_for_adapters_and_first_tokens() {
    let reading = MetricsPage::read(b"vllm:num_requests_waiting 1\n", vllm()).expect("a page");
    assert_eq!(
        vllm().describe(reading.missing),
        "vllm:num_requests_running, vllm:kv_cache_usage_perc, vllm:cache_config_info"
    );
    let reading = MetricsPage::read(b"up 1\n", vllm()).expect("a page");
    assert!(reading.found.is_empty());
}

#[test]
fn the_labels_of_the_cache_have_the_references_defaults() {
    let spec = EngineSpec::new(&EngineDefinition {
        name: "mine".into(),
        cache_info_spec: "cache".into(),
        ..EngineDefinition::default()
    })
    .expect("a good definition");
    let page = b"cache{block_size=\"32\",num_gpu_blocks=\"9\"} 1\n";
    let metrics = MetricsPage::scan(page, &spec).expect("a page");
    assert_eq!(
        (metrics.block_size, metrics.num_blocks),
        (Some(32), Some(9))
    );
}
