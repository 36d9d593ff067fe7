//! The `OpenAI` family: chat completions, completions, embeddings, responses, conversations, images.

use super::Dialect;
use super::media::MediumKind;
use super::table::{Field, KeyClass, Requires, Segment, Shape, Table};

/// Path suffixes.
pub(super) const PATHS: &[(&str, Dialect)] = &[
    ("chat/completions", Dialect::OpenAiChat),
    ("chat/completions/render", Dialect::OpenAiChat),
    ("completions", Dialect::OpenAiCompletions),
    ("completions/render", Dialect::OpenAiCompletions),
    ("embeddings", Dialect::OpenAiEmbeddings),
    ("responses", Dialect::OpenAiResponses),
    ("conversations", Dialect::OpenAiConversations),
    ("images/generations", Dialect::OpenAiImages),
];

/// Content parts: `{"type":"image_url","image_url":{"url":…}}` in chat, `{"type":"input_image","image_url":"…"}` in responses,
/// `{"type":"input_audio","input_audio":{"data":…}}`; video and audio by URL are vLLM's.
const KEYS: &[(&[u8], KeyClass)] = &[
    (b"type", KeyClass::Skipped),
    (b"image_url", KeyClass::Media(MediumKind::Image)),
    (b"video_url", KeyClass::Media(MediumKind::Video)),
    (b"audio_url", KeyClass::Media(MediumKind::Audio)),
    (b"input_audio", KeyClass::Media(MediumKind::Audio)),
    (b"url", KeyClass::MediaContent),
    (b"data", KeyClass::MediaContent),
];

const MAIN_CONVERSATION: Field = Field::Prompt(Segment::Main, Shape::Conversation);
const MAIN_BATCH: Field = Field::Prompt(Segment::Main, Shape::Batch);
const TOOLS: Field = Field::Prompt(Segment::Tools, Shape::Definitions);

/// Chat completions.
pub(super) const CHAT: Table = Table {
    fields: &[
        (b"messages", MAIN_CONVERSATION),
        (b"tools", TOOLS),
        (b"max_completion_tokens", Field::MaxTokens(0)),
        (b"max_tokens", Field::MaxTokens(1)),
    ],
    keys: KEYS,
    requires: Requires::FilledList,
    requirement: "invalid chat completions request: must have valid messages field",
    finer: &[],
    salt_requirement: None,
};

/// Completions.
pub(super) const COMPLETIONS: Table = Table {
    fields: &[
        (b"prompt", MAIN_BATCH),
        (b"max_tokens", Field::MaxTokens(0)),
    ],
    keys: KEYS,
    requires: Requires::TextOrList,
    requirement: "invalid completions request: must have prompt field",
    finer: &[],
    salt_requirement: None,
};

/// Embeddings; vLLM also takes `messages`.
pub(super) const EMBEDDINGS: Table = Table {
    fields: &[(b"input", MAIN_BATCH), (b"messages", MAIN_CONVERSATION)],
    keys: KEYS,
    requires: Requires::TextOrList,
    requirement: "invalid embeddings request: must have input field",
    finer: &[],
    salt_requirement: None,
};

/// Responses.
pub(super) const RESPONSES: Table = Table {
    fields: &[
        (b"input", MAIN_CONVERSATION),
        (
            b"instructions",
            Field::Prompt(Segment::System, Shape::Conversation),
        ),
        (b"tools", TOOLS),
        (b"max_output_tokens", Field::MaxTokens(0)),
    ],
    keys: KEYS,
    requires: Requires::TextOrList,
    requirement: "invalid responses request: must have input field",
    finer: &[],
    salt_requirement: None,
};

/// Conversations.
pub(super) const CONVERSATIONS: Table = Table {
    fields: &[(b"items", MAIN_CONVERSATION)],
    keys: KEYS,
    requires: Requires::List,
    requirement: "invalid conversations request: must have items field",
    finer: &[],
    salt_requirement: None,
};

/// Image generation.
pub(super) const IMAGES: Table = Table {
    fields: &[(b"prompt", MAIN_BATCH)],
    keys: KEYS,
    requires: Requires::TextOrList,
    requirement: "invalid images generations request: must have prompt field",
    finer: &[],
    salt_requirement: None,
};
