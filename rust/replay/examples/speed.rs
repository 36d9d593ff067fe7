//! How long simulations take: `cargo run --release -p warmroute-replay --example speed -- WORKLOAD RATE REQUESTS REPEAT [REPLICAS [POLICY JSON]]`.
//!
//! WORKLOAD: a name, or the path of a trace. Prints the report as JSON and the seconds it took.

use std::time::Instant;

use warmroute_core::engine::PolicySpec;
use warmroute_replay::simulation::{Progress, Settings, read_policy, simulate};
use warmroute_replay::trace::{generate, mooncake};
use warmroute_replay::{CostModel, Hardware};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize, default: &str| -> String {
        arguments
            .get(place)
            .map_or(default, String::as_str)
            .to_owned()
    };
    let (workload, requests) = (argument(0, "no-reuse"), argument(2, "10000"));
    let trace = if workload.contains('/') {
        mooncake::read(&std::fs::read_to_string(&workload)?, &workload)?.trace
    } else {
        let settings = format!(
            r#"{{"workload": "{workload}", "requests": {requests}, "rate": {}}}"#,
            argument(1, "10")
        );
        generate::generate(&settings, 1)?
    };
    let hardware = Hardware {
        cost: CostModel {
            step: 7e-3,
            prefill_token: 31.5e-6,
            decode_sequence: 20e-6,
            decode_kv_token: 48e-9,
            prefill_context: 1e-9,
        },
        num_gpu_blocks: 27_000,
        block_size: 16,
        max_num_seqs: 256,
        max_num_batched_tokens: 8_192,
        max_loras: 1,
    };
    let settings = Settings {
        rate: Some(argument(1, "10").parse()?),
        repeat: argument(3, "1").parse()?,
        replicas: vec![hardware; argument(4, "8").parse()?],
        ..Settings::from_json(
            r#"{"replicas": [{"cost": {"step": 0, "prefill_token": 0, "decode_sequence": 0, "decode_kv_token": 0, "prefill_context": 0},
                "num_gpu_blocks": 2, "block_size": 1, "max_num_seqs": 1, "max_num_batched_tokens": 1, "max_loras": 0}]}"#,
        )?
    };
    let policy = match arguments.get(5) {
        Some(json) => read_policy(json)?,
        None => PolicySpec::default_policy(),
    };
    let begun = Instant::now();
    let report = simulate(&trace, &settings, &policy, &Progress::default())?;
    let took = begun.elapsed().as_secs_f64();
    println!("{}", serde_json::to_string(&report)?);
    println!(
        "{took:.2} s, {:.1} us a request",
        took * 1e6 / report.requests as f64
    );
    Ok(())
}
