//! The media of a request, named by their content, and what they count as: placeholder tokens, since nobody looks into them.

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

/// Placeholder tokens of one medium of each kind, where its kind alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaTokens {
    /// Of an image.
    pub image: u32,
    /// Of a video.
    pub video: u32,
}

impl MediaTokens {
    /// The reference's defaults: 640 x 360 pixels / 1024, of a video 10 s at 2 frames a second.
    pub const DEFAULT: Self = Self {
        image: 225,
        video: 225 * 20,
    };
}

impl Default for MediaTokens {
    fn default() -> Self {
        Self::DEFAULT
    }
}
