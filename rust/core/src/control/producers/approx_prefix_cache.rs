//! `approx-prefix-cache-producer`: which leading blocks of a prompt each endpoint is expected to hold, from what was sent to it before.

use crate::plugin::{
    Data, ParameterKind, Parts, PluginKind, PrefixLimit, PrefixSettings, Role, Shape,
};

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "approx-prefix-cache-producer",
    roles: &[Role::Producer],
    summary: "Remembers which prompt blocks were sent to which endpoint and matches new prompts against them.",
    parameters: &[
        ParameterKind {
            name: "autoTune",
            shape: Shape::Boolean,
            default: "true",
            summary: "Take block size and capacity from the engines' own metrics where they tell them.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "blockSizeTokens",
            shape: Shape::Integer {
                least: 1,
                most: 1 << 20,
            },
            default: "16",
            unit: "tokens",
            summary: "Size of a block where the engines do not tell; raised to at least 64.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "blockSize",
            shape: Shape::Integer {
                least: 1,
                most: 1 << 22,
            },
            unit: "bytes",
            summary: "Size of a block in bytes of prompt text.",
            deprecated: Some("blockSizeTokens (a token is taken as four bytes)"),
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxPrefixTokensToMatch",
            shape: Shape::Integer {
                least: 0,
                most: i32::MAX as i64,
            },
            default: "131072",
            unit: "tokens",
            summary: "Longest prefix that is matched; 0 leaves it to maxPrefixBlocksToMatch.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "maxPrefixBlocksToMatch",
            shape: Shape::Integer {
                least: 0,
                most: i32::MAX as i64,
            },
            default: "2048",
            unit: "blocks",
            summary: "Longest prefix that is matched, where maxPrefixTokensToMatch is 0; 0 as well: no limit.",
            deprecated: Some("maxPrefixTokensToMatch"),
        },
        ParameterKind {
            name: "lruCapacityPerServer",
            shape: Shape::Integer {
                least: 1,
                most: i32::MAX as i64,
            },
            default: "31250",
            unit: "blocks",
            summary: "Blocks remembered of an endpoint whose engine does not tell how many it holds.",
            ..ParameterKind::BASE
        },
    ],
    consumes: &[Data::TokenizedPrompt],
    produces: Some(Data::PrefixMatch),
    build: |parameters| {
        let natural = |field: &str| u32::try_from(parameters.integer(field)).unwrap_or(u32::MAX);
        let block_tokens = parameters
            .optional_integer("blockSize")
            .map_or(natural("blockSizeTokens"), |bytes| {
                u32::try_from(bytes.max(4) / 4).unwrap_or(u32::MAX)
            });
        let longest = match (
            natural("maxPrefixTokensToMatch"),
            natural("maxPrefixBlocksToMatch"),
        ) {
            (0, 0) => PrefixLimit::None,
            (0, blocks) => PrefixLimit::Blocks(blocks),
            (tokens, _) => PrefixLimit::Tokens(tokens),
        };
        Ok(Parts {
            prefix: Some(PrefixSettings {
                auto_tune: parameters.boolean("autoTune"),
                block_tokens,
                longest,
                lru_capacity: natural("lruCapacityPerServer") as usize,
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
    fn parameters_become_settings_and_limits_count_in_blocks_as_they_are() {
        let default = PrefixSettings::default();
        // Blocks of 64 tokens, as where no engine tells.
        for (parameters, expected, blocks) in [
            (json!({}), default, 2048),
            (
                json!({"autoTune": false, "blockSizeTokens": 32, "lruCapacityPerServer": 7}),
                PrefixSettings {
                    auto_tune: false,
                    block_tokens: 32,
                    lru_capacity: 7,
                    ..default
                },
                2048,
            ),
            (
                json!({"maxPrefixTokensToMatch": 1000, "maxPrefixBlocksToMatch": 3}),
                PrefixSettings {
                    longest: PrefixLimit::Tokens(1000),
                    ..default
                },
                15,
            ),
            (
                json!({"maxPrefixTokensToMatch": 10}),
                PrefixSettings {
                    longest: PrefixLimit::Tokens(10),
                    ..default
                },
                1,
            ),
            // Not of the 16 tokens that are configured.
            (
                json!({"maxPrefixTokensToMatch": 0, "maxPrefixBlocksToMatch": 256}),
                PrefixSettings {
                    longest: PrefixLimit::Blocks(256),
                    ..default
                },
                256,
            ),
            (
                json!({"maxPrefixTokensToMatch": 0, "maxPrefixBlocksToMatch": 0}),
                PrefixSettings {
                    longest: PrefixLimit::None,
                    ..default
                },
                usize::MAX,
            ),
            // Bytes of text, four to a token.
            (
                json!({"blockSize": 256, "blockSizeTokens": 99}),
                PrefixSettings {
                    block_tokens: 64,
                    ..default
                },
                2048,
            ),
            (
                json!({"blockSize": 3}),
                PrefixSettings {
                    block_tokens: 1,
                    ..default
                },
                2048,
            ),
        ] {
            let settings = built(&KIND, &parameters).prefix.expect("settings");
            assert_eq!(settings, expected, "{parameters}");
            assert_eq!(settings.longest.blocks(64), blocks, "{parameters}");
        }
    }

    #[test]
    fn sizes_of_nothing_are_refused() {
        for field in ["blockSizeTokens", "lruCapacityPerServer"] {
            let problem = refused(&KIND, &json!({field: 0}));
            assert!(
                problem.starts_with(&format!("{field}: must be a whole number")),
                "{problem}"
            );
        }
    }
}
