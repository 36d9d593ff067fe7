//! What an image or a video counts as: placeholder tokens, since nobody looks into it.

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
