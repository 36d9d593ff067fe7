//! The engines known without configuration, with the series that the reference reads and their counters of tokens.

use super::engine_spec::EngineDefinition;

pub(super) fn definitions() -> [EngineDefinition; 5] {
    let text = str::to_owned;
    [
        EngineDefinition {
            name: text("vllm"),
            queued_requests_spec: text("vllm:num_requests_waiting"),
            running_requests_spec: text("vllm:num_requests_running"),
            kv_usage_spec: text("vllm:kv_cache_usage_perc"),
            lora_spec: text("vllm:lora_requests_info"),
            cache_info_spec: text("vllm:cache_config_info"),
            cache_block_size_label_name: text("block_size"),
            cache_num_blocks_label_name: text("num_gpu_blocks"),
            first_tokens_spec: text("vllm:time_to_first_token_seconds_count"),
            first_token_seconds_spec: text("vllm:time_to_first_token_seconds_sum"),
            // Its name until vLLM 0.11 stands second.
            token_gaps_spec: text(
                "vllm:inter_token_latency_seconds_count|vllm:time_per_output_token_seconds_count",
            ),
            token_gap_seconds_spec: text(
                "vllm:inter_token_latency_seconds_sum|vllm:time_per_output_token_seconds_sum",
            ),
            output_tokens_spec: text("vllm:generation_tokens_total"),
            finished_requests_spec: text("vllm:request_success_total"),
            queried_tokens_spec: text("vllm:prefix_cache_queries_total"),
            cached_tokens_spec: text("vllm:prefix_cache_hits_total"),
            external_cached_tokens_spec: text("vllm:external_prefix_cache_hits_total"),
            ..EngineDefinition::default()
        },
        EngineDefinition {
            name: text("sglang"),
            queued_requests_spec: text("sglang:num_queue_reqs"),
            running_requests_spec: text("sglang:num_running_reqs"),
            kv_usage_spec: text("sglang:token_usage"),
            cache_info_spec: text("sglang:cache_config_info"),
            cache_block_size_label_name: text("page_size"),
            cache_num_blocks_label_name: text("num_pages"),
            first_tokens_spec: text("sglang:time_to_first_token_seconds_count"),
            first_token_seconds_spec: text("sglang:time_to_first_token_seconds_sum"),
            token_gaps_spec: text(
                "sglang:inter_token_latency_seconds_count|sglang:time_per_output_token_seconds_count",
            ),
            token_gap_seconds_spec: text(
                "sglang:inter_token_latency_seconds_sum|sglang:time_per_output_token_seconds_sum",
            ),
            output_tokens_spec: text("sglang:generation_tokens_total"),
            finished_requests_spec: text("sglang:num_requests_total"),
            ..EngineDefinition::default()
        },
        EngineDefinition {
            name: text("trtllm-serve"),
            queued_requests_spec: text("trtllm_num_requests_waiting"),
            running_requests_spec: text("trtllm_num_requests_running"),
            kv_usage_spec: text("trtllm_kv_cache_utilization"),
            cache_block_size_spec: text("trtllm_kv_cache_tokens_per_block"),
            cache_num_blocks_spec: text("trtllm_kv_cache_max_blocks"),
            first_tokens_spec: text("trtllm_time_to_first_token_seconds_count"),
            first_token_seconds_spec: text("trtllm_time_to_first_token_seconds_sum"),
            // A mean over each request's gaps, once a request.
            token_gaps_spec: text("trtllm_time_per_output_token_seconds_count"),
            token_gap_seconds_spec: text("trtllm_time_per_output_token_seconds_sum"),
            output_tokens_spec: text("trtllm_generation_tokens_total"),
            finished_requests_spec: text("trtllm_request_success_total"),
            ..EngineDefinition::default()
        },
        EngineDefinition {
            name: text("triton-tensorrt-llm"),
            queued_requests_spec: text("nv_trt_llm_request_metrics{request_type=waiting}"),
            running_requests_spec: text("nv_trt_llm_request_metrics{request_type=scheduled}"),
            kv_usage_spec: text("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
            cache_block_size_spec: text(
                "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
            ),
            cache_num_blocks_spec: text(
                "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
            ),
            ..EngineDefinition::default()
        },
        EngineDefinition {
            name: text("triton"),
            queued_requests_spec: text("nv_inference_pending_request_count"),
            running_requests_spec: text("nv_inference_exec_count"),
            ..EngineDefinition::default()
        },
    ]
}
