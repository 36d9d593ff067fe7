//! `approx-prefix-cache-producer`: which leading blocks of a prompt each endpoint is expected to hold, from what was sent to it before.

use crate::plugin::{Data, ParameterKind, Parts, PluginKind, PrefixSettings, Role, Shape};

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
        let limit = match (
            natural("maxPrefixTokensToMatch"),
            natural("maxPrefixBlocksToMatch"),
        ) {
            (0, 0) => i32::MAX as u32,
            (0, blocks) => blocks.saturating_mul(block_tokens),
            (tokens, _) => tokens,
        };
        Ok(Parts {
            prefix: Some(PrefixSettings {
                auto_tune: parameters.boolean("autoTune"),
                block_tokens,
                max_prefix_tokens: limit,
                lru_capacity: natural("lruCapacityPerServer") as usize,
            }),
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};
