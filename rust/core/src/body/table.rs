//! The vocabulary of the dialect tables: what a top-level key means, and what a key inside a prompt means.

use super::media::MediumKind;

use super::prompt::MainValue;

/// What a top-level key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nothing that routing needs.
    Ignored,
    /// The model's name.
    Model,
    /// Whether the answer streams.
    Stream,
    /// Salt that parts the caches of tenants.
    CacheSalt,
    /// Limit on output tokens; of several, the lowest rank that is set counts.
    MaxTokens(usize),
    /// An object that holds the limit on output tokens, under this key.
    SamplingParameters(&'static [u8]),
    /// Text or tokens that the model reads.
    Prompt(Segment, Shape),
}

/// Ranks of [`Field::MaxTokens`].
pub(super) const MAX_TOKENS_RANKS: usize = 2;

/// Where a prompt-bearing key stands in what the chat template renders, whatever its place in the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// First: the tools.
    Tools = 0,
    /// Second: the system prompt.
    System = 1,
    /// Last: messages, prompt, input.
    Main = 2,
}

/// How a prompt-bearing value becomes canonical bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// All leaf values in order, as one sequence.
    Conversation,
    /// One sequence an element of the list (or one for a lone string); numbers are token ids.
    Batch,
    /// Keys and leaf values, nothing left out: JSON schemas.
    Definitions,
}

/// What a key inside a prompt says of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KeyClass {
    /// A leaf or more structure.
    #[default]
    Plain,
    /// Nothing that the model reads.
    Skipped,
    /// A medium: the string itself, or an object that holds it.
    Media(MediumKind),
    /// Holds the medium when the object around it is one.
    MediaContent,
}

/// The least that the main value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requires {
    /// Nothing.
    Nothing,
    /// A string or a list.
    TextOrList,
    /// A list.
    List,
    /// A list that is not empty.
    FilledList,
}

/// How bodies of one dialect are read.
#[derive(Debug)]
pub(super) struct Table {
    /// Top-level keys, besides the [`COMMON`] ones.
    pub(super) fields: &'static [(&'static [u8], Field)],
    /// Keys inside prompts that are not plain.
    pub(super) keys: &'static [(&'static [u8], KeyClass)],
    /// The least that the main value must be.
    pub(super) requires: Requires,
    /// What the client is told when it is not.
    pub(super) requirement: &'static str,
    /// What it is told instead where it matters what stands there.
    pub(super) finer: &'static [(MainValue, &'static str)],
    /// What it is told when the salt is there and no string; `None`: it counts for nothing then.
    pub(super) salt_requirement: Option<&'static str>,
}

/// Top-level keys that mean the same in each dialect.
const COMMON: &[(&[u8], Field)] = &[
    (b"model", Field::Model),
    (b"stream", Field::Stream),
    (b"cache_salt", Field::CacheSalt),
];

/// Longest key of any table, in bytes: longer ones need not be remembered.
pub(super) const LONGEST_KEY: usize = 32;

impl Table {
    /// What a top-level key holds.
    pub(super) fn field(&self, key: &[u8]) -> Field {
        lookup(self.fields, key)
            .or_else(|| lookup(COMMON, key))
            .unwrap_or(Field::Ignored)
    }

    /// What a key inside a prompt says.
    pub(super) fn key_class(&self, key: &[u8]) -> KeyClass {
        lookup(self.keys, key).unwrap_or_default()
    }
}

impl Table {
    /// What the client is told of a main value that is too little.
    pub(super) fn requirement(&self, value: MainValue) -> &'static str {
        self.finer
            .iter()
            .find(|(found, _)| *found == value)
            .map_or(self.requirement, |(_, text)| text)
    }
}

fn lookup<T: Copy>(rows: &[(&[u8], T)], key: &[u8]) -> Option<T> {
    rows.iter()
        .find(|(name, _)| *name == key)
        .map(|(_, value)| *value)
}
