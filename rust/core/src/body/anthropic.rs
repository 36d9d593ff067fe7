//! The Anthropic family: messages and their token count.

use super::Dialect;
use super::media::MediumKind;
use super::table::{Field, KeyClass, Requires, Segment, Shape, Table};

/// Path suffixes.
pub(super) const PATHS: &[(&str, Dialect)] = &[
    ("v1/messages", Dialect::AnthropicMessages),
    ("v1/messages/count_tokens", Dialect::AnthropicCountTokens),
];

/// Content blocks: `{"type":"image","source":{"type":"base64","media_type":…,"data":…}}`. Cache breakpoints move from turn
/// to turn without changing what the model reads, so they must not part equal prefixes.
const KEYS: &[(&[u8], KeyClass)] = &[
    (b"type", KeyClass::Skipped),
    (b"cache_control", KeyClass::Skipped),
    (b"source", KeyClass::Media(MediumKind::Image)),
    (b"data", KeyClass::MediaContent),
    (b"url", KeyClass::MediaContent),
];

const FIELDS: &[(&[u8], Field)] = &[
    (
        b"messages",
        Field::Prompt(Segment::Main, Shape::Conversation),
    ),
    (
        b"system",
        Field::Prompt(Segment::System, Shape::Conversation),
    ),
    (b"tools", Field::Prompt(Segment::Tools, Shape::Definitions)),
    (b"max_tokens", Field::MaxTokens(0)),
];

/// Messages.
pub(super) const MESSAGES: Table = Table {
    fields: FIELDS,
    keys: KEYS,
    requires: Requires::FilledList,
    requirement: "invalid messages request: must have valid messages field",
    finer: &[],
    salt_requirement: None,
};

/// Count of tokens: passed on as it is.
pub(super) const COUNT_TOKENS: Table = Table {
    fields: FIELDS,
    keys: KEYS,
    requires: Requires::Nothing,
    requirement: "",
    finer: &[],
    salt_requirement: None,
};
