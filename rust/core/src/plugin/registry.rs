//! The plugins that a configuration can name: configuration errors, and the documentation, are made from this table.

use super::kind::PluginKind;
use super::spelling;
use crate::control::{admitters, producers, reporters, responses, saturation, screeners};
use crate::schedule::{filters, handlers, pickers, scorers};

/// Every type of plugin.
pub const REGISTRY: &[PluginKind] = &[
    filters::header_based_testing::KIND,
    filters::label_selector::KIND,
    filters::session_affinity::KIND,
    scorers::kv_cache_utilization::KIND,
    scorers::lora_affinity::KIND,
    scorers::marginal_latency::KIND,
    scorers::mm_embeddings_cache::KIND,
    scorers::no_hit_lru::KIND,
    scorers::prefix_cache::KIND,
    scorers::queue::KIND,
    scorers::running_requests_size::KIND,
    scorers::session_affinity::KIND,
    scorers::token_load::KIND,
    pickers::max_score::KIND,
    pickers::random::KIND,
    pickers::weighted_random::KIND,
    handlers::single_profile::KIND,
    producers::agent_identity::KIND,
    producers::approx_prefix_cache::KIND,
    producers::inflight_load::KIND,
    producers::mm_embeddings_cache::KIND,
    producers::p2p_source::KIND,
    producers::precise_prefix_cache::KIND,
    producers::precise_prefix_cache::SCORER,
    producers::session_id::KIND,
    producers::tokens::KIND,
    filters::by_label::KIND,
    filters::endpoint_attribute::KIND,
    filters::prefix_cache_affinity::KIND,
    filters::role::DECODE,
    filters::role::ENCODE,
    filters::role::PREFILL,
    filters::utilization::KIND,
    handlers::data_parallel::KIND,
    handlers::header_profile::KIND,
    saturation::concurrency::KIND,
    saturation::utilization::KIND,
    scorers::active_request::KIND,
    scorers::context_length_aware::KIND,
    scorers::endpoint_attribute::KIND,
    scorers::header_label_affinity::KIND,
    scorers::load_aware::KIND,
    admitters::probabilistic::KIND,
    reporters::request_attribute::KIND,
    responses::destination_endpoint_served_verifier::KIND,
    screeners::disaggregatedset_rollout::KIND,
    scorers::bounded_hash::KIND,
    scorers::cache_aware::KIND,
    scorers::lmetric::KIND,
    pickers::round_robin::KIND,
];

/// Deprecated names of types: (old, new).
pub const ALIASES: &[(&str, &str)] = &[
    ("by-label-selector", "label-selector-filter"),
    ("tokenizer", "token-producer"),
];

/// The type of that name.
pub fn find(type_name: &str) -> Option<&'static PluginKind> {
    let alias = ALIASES.iter().find(|(old, _)| *old == type_name);
    let type_name = alias.map_or(type_name, |(_, new)| new);
    REGISTRY.iter().find(|kind| kind.type_name == type_name)
}

/// The known type that is spelled most alike.
pub fn nearest(type_name: &str) -> Option<&'static str> {
    spelling::nearest(type_name, REGISTRY.iter().map(|kind| kind.type_name))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plugin::kind::{ParameterKind, Shape};
    use crate::plugin::{PluginSpec, check_plugin};

    #[test]
    fn types_are_unique_and_documented() {
        for (place, kind) in REGISTRY.iter().enumerate() {
            assert!(!kind.summary.is_empty(), "{}", kind.type_name);
            assert!(!kind.roles.is_empty(), "{}", kind.type_name);
            documented(kind.parameters);
            let mut earlier = REGISTRY[..place].iter();
            assert!(
                earlier.all(|other| other.type_name != kind.type_name),
                "{}",
                kind.type_name
            );
        }
    }

    fn documented(parameters: &[ParameterKind]) {
        for parameter in parameters {
            assert!(!parameter.summary.is_empty(), "{}", parameter.name);
            if !parameter.default.is_empty() {
                serde_json::from_str::<Value>(parameter.default).expect(parameter.name);
            }
            if let Shape::Object(fields) | Shape::Objects(fields) = parameter.shape {
                documented(fields);
            }
        }
    }

    #[test]
    fn what_has_no_required_parameter_is_built_from_none_and_does_what_it_says() {
        for kind in REGISTRY {
            if kind
                .parameters
                .iter()
                .any(|parameter| parameter.default.is_empty())
            {
                continue;
            }
            let checked = crate::plugin::check::check(kind.parameters, None).expect(kind.type_name);
            let parameters = crate::plugin::Parameters::new(&checked.values, "mine");
            let Ok(parts) = (kind.build)(&parameters) else {
                // What cannot be left out may also be one of several fields.
                continue;
            };
            let mut roles = kind.roles.to_vec();
            roles.sort_by_key(|role| {
                crate::plugin::Role::ALL
                    .iter()
                    .position(|other| other == role)
            });
            assert_eq!(parts.roles(), roles, "{}", kind.type_name);
        }
    }

    #[test]
    fn a_deprecated_name_builds_what_replaced_it() {
        for (old, new) in ALIASES {
            let Some(kind) = find(old) else { continue };
            assert_eq!(kind.type_name, *new);
            check_plugin(&PluginSpec::of_type(old)).expect(old);
        }
    }
}
