//! The media of a request, named by their content.

/// Kinds of media, by what they cost in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
}

impl MediumKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Image, Self::Video, Self::Audio];

    /// As a label of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }
}

/// One medium of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// What it is.
    pub kind: MediumKind,
    /// Hash of its address or its data: equal ones are the same medium.
    pub hash: u64,
    /// Placeholder tokens that it is taken for.
    pub tokens: u32,
}

/// Different media of one request that are kept; more count in tokens but have no part in the choice.
pub const MAX_MEDIA: usize = 256;
