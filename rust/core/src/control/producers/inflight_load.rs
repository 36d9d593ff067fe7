//! `inflight-load-producer`: how many requests and tokens are on their way to each endpoint through this picker.

use crate::plugin::{Data, InFlightSettings, ParameterKind, Parts, PluginKind, Role, Shape};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "inflight-load-producer",
    roles: &[Role::Producer],
    summary: "Counts requests and tokens in flight: tokens not in the endpoint's cache until the first token, with an output estimate until the end.",
    parameters: &[
        ParameterKind {
            name: "addEstimatedOutputTokens",
            shape: Shape::Boolean,
            default: "false",
            summary: "Count min(round(prompt tokens · outputRatio), the client's limit, maxEstimatedOutputTokens) as well, until the end of the request.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "outputRatio",
            shape: Shape::Number {
                least: 0.0,
                most: f64::INFINITY,
            },
            default: "1.5",
            summary: "Output tokens expected for each prompt token.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxEstimatedOutputTokens",
            shape: Shape::Integer {
                least: 0,
                most: u32::MAX as i64,
            },
            unit: "tokens",
            summary: "Most output tokens expected.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "prefixMatchInfoProducerName",
            shape: Shape::ProducerName(Data::PrefixMatch),
            summary: "Whose matches tell what is in an endpoint's cache.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "syncCrossReplicaState",
            shape: Shape::Boolean,
            default: "true",
            summary: "Share the load with other pickers where the configuration names a store to do so.",
            ..ParameterKind::BASE
        },
    ],
    produces: Some(Data::InFlightLoad),
    build: |parameters| {
        Ok(Parts {
            in_flight: Some(InFlightSettings {
                add_estimated_output_tokens: parameters.boolean("addEstimatedOutputTokens"),
                output_ratio: parameters.number("outputRatio"),
                max_estimated_output_tokens: parameters
                    .optional_integer("maxEstimatedOutputTokens")
                    .and_then(|tokens| u32::try_from(tokens).ok()),
                prefix_producer: parameters
                    .optional_text("prefixMatchInfoProducerName")
                    .map(Box::from),
            }),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::testing::{built, refused};

    #[test]
    fn parameters_become_settings() {
        let settings = |parameters| built(&KIND, &parameters).in_flight.expect("settings");
        assert_eq!(settings(json!({})), InFlightSettings::default());
        assert_eq!(
            settings(
                json!({"addEstimatedOutputTokens": true, "outputRatio": 0.25, "maxEstimatedOutputTokens": 9, "syncCrossReplicaState": false})
            ),
            InFlightSettings {
                add_estimated_output_tokens: true,
                output_ratio: 0.25,
                max_estimated_output_tokens: Some(9),
                prefix_producer: None,
            }
        );
        assert_eq!(
            refused(&KIND, &json!({"outputRatio": -1})),
            "outputRatio: must be a number of at least 0, not -1"
        );
    }
}
