//! Requests that a real vLLM 0.32 server answered, and the prompt tokens that its KV events carried.

use warmroute_core::body::Dialect;
use warmroute_tokenize::local::LocalTokenizer;

use crate::support::{data, read_json, tokens};

#[test]
fn recorded_requests_become_the_tokens_that_the_engine_announced() {
    let requests = read_json("vllm-0.32/requests.json");
    let announced = read_json("vllm-0.32/tokens.json");
    for cache_bytes in [0, 1 << 20] {
        let tokenizer = LocalTokenizer::open(&data("vllm-0.32"), None, false, cache_bytes)
            .expect("the folder is complete");
        // Twice, so that the cache answers as well.
        for request in requests
            .as_array()
            .expect("a list")
            .iter()
            .chain(requests.as_array().expect("a list"))
        {
            let name = request["file"].as_str().expect("a name");
            let dialect = if request["path"] == "/v1/completions" {
                Dialect::OpenAiCompletions
            } else {
                Dialect::OpenAiChat
            };
            let ours = tokens(&tokenizer, dialect, &request["body"].to_string());
            let expected = &announced[name];
            assert_eq!(
                Some(ours.len() as u64),
                expected["prompt_tokens"].as_u64(),
                "{name}"
            );
            // The last block of a short answer is never filled, and so never announced.
            let blocks: Vec<u32> =
                serde_json::from_value(expected["announced"].clone()).expect("token ids");
            assert!(blocks.len() >= 96, "{name}");
            assert_eq!(ours[..blocks.len()], blocks, "{name}");
        }
    }
}
