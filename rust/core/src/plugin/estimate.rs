//! How prompts are estimated, as `token-producer` describes it.

use crate::body::MediaTokens;
use crate::exchange::Header;

/// What media count as. Text always counts a token for four bytes, a sound its content's length / 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EstimateSettings {
    /// Tokens of an image.
    pub image_tokens: u32,
    /// Frames that count.
    pub frames: Frames,
    /// Fewest frames; 0: no bound.
    pub min_frames: u32,
    /// Most frames; 0: no bound.
    pub max_frames: u32,
    /// Seconds, where the request does not tell.
    pub duration: f64,
    /// Pixels wide and high, where the request does not tell.
    pub resolution: (u32, u32),
    /// Tokens of a frame.
    pub frame: FrameTokens,
    /// Most tokens of a video; 0: no bound.
    pub max_video_tokens: u32,
}

/// Which frames of a video count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frames {
    /// `duration · fps` in groups of `patch`.
    Sampled {
        /// Frames a second that the model looks at.
        fps: f64,
        /// Frames that become one.
        patch: u32,
    },
    /// `duration · fps / stride`.
    Strided {
        /// Frames a second of the video, where the request does not tell.
        fps: f64,
        /// Every how manieth is looked at.
        stride: u32,
    },
}

/// What a frame counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameTokens {
    /// So many.
    Static(u32),
    /// Its pixels over this.
    Dynamic {
        /// Pixels a token.
        factor: u32,
    },
}

/// What a request tells of its videos, in headers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Told {
    duration: Option<f64>,
    fps: Option<f64>,
    resolution: Option<(u32, u32)>,
}

impl Default for EstimateSettings {
    fn default() -> Self {
        Self {
            image_tokens: tokens_of((640, 360), 1024),
            frames: Frames::Sampled { fps: 2.0, patch: 1 },
            min_frames: 0,
            max_frames: 0,
            duration: 10.0,
            resolution: (640, 360),
            frame: FrameTokens::Dynamic { factor: 1024 },
            max_video_tokens: 0,
        }
    }
}

impl EstimateSettings {
    /// What media of a request with these headers count as. `x-llm-d-video-duration-seconds`, `-fps` and `-resolution` say more of its videos.
    pub fn media_tokens(&self, headers: &[Header]) -> MediaTokens {
        MediaTokens {
            image: self.image_tokens,
            video: self.video_tokens(Told::read(headers)),
        }
    }

    fn video_tokens(&self, told: Told) -> u32 {
        let per_frame = match self.frame {
            FrameTokens::Static(tokens) => tokens,
            FrameTokens::Dynamic { factor } => {
                tokens_of(told.resolution.unwrap_or(self.resolution), factor)
            }
        };
        let tokens = self.frame_count(told).saturating_mul(per_frame.max(1));
        if self.max_video_tokens > 0 {
            tokens.min(self.max_video_tokens).max(1)
        } else {
            tokens.max(1)
        }
    }

    fn frame_count(&self, told: Told) -> u32 {
        let duration = told.duration.unwrap_or(self.duration);
        let bounded = |frames: u32| {
            let frames = frames.max(self.min_frames);
            if self.max_frames > 0 {
                frames.min(self.max_frames)
            } else {
                frames
            }
        };
        match self.frames {
            Frames::Sampled { fps, patch } => bounded((duration * fps) as u32) / patch.max(1),
            Frames::Strided { fps, stride } => {
                bounded((duration * told.fps.unwrap_or(fps)) as u32 / stride.max(1))
            }
        }
    }
}

/// A picture's tokens: its pixels over `factor`, at least 1.
pub(crate) fn tokens_of((width, height): (u32, u32), factor: u32) -> u32 {
    let tokens = u64::from(width) * u64::from(height) / u64::from(factor.max(1));
    u32::try_from(tokens).unwrap_or(u32::MAX).max(1)
}

impl Told {
    /// What cannot be read counts as not told.
    fn read(headers: &[Header]) -> Self {
        let mut told = Self::default();
        for header in headers {
            let Some(name) = header.key.strip_prefix(b"x-llm-d-video-") else {
                continue;
            };
            let Ok(value) = std::str::from_utf8(&header.value) else {
                continue;
            };
            let positive = || {
                let number: f64 = value.trim().parse().ok()?;
                (number > 0.0).then_some(number)
            };
            match name {
                b"duration-seconds" => told.duration = positive(),
                b"fps" => told.fps = positive(),
                b"resolution" => told.resolution = resolution(value),
                _ => {}
            }
        }
        told
    }
}

fn resolution(value: &str) -> Option<(u32, u32)> {
    let (width, height) = value.split_once(['x', 'X'])?;
    let side = |text: &str| text.trim().parse().ok().filter(|side| *side > 0);
    Some((side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn tokens(settings: &EstimateSettings, headers: &[(&str, &'static str)]) -> (u32, u32) {
        let headers: Vec<Header> = headers
            .iter()
            .map(|(name, value)| Header {
                key: format!("x-llm-d-video-{name}").into(),
                value: Bytes::from_static(value.as_bytes()),
            })
            .collect();
        let media = settings.media_tokens(&headers);
        (media.image, media.video)
    }

    #[test]
    fn the_default_is_the_scanners_default() {
        let media = EstimateSettings::default().media_tokens(&[]);
        assert_eq!(media, MediaTokens::DEFAULT);
    }

    #[test]
    fn headers_tell_more_of_a_video_and_nonsense_in_them_nothing() {
        let sampled = EstimateSettings::default();
        for (headers, video) in [
            (&[("duration-seconds", "1.5")][..], 3 * 225),
            (&[("resolution", "1280X 720")], 20 * 900),
            (&[("fps", "60")], 20 * 225),
            (
                &[("duration-seconds", "-1"), ("resolution", "640x")],
                20 * 225,
            ),
            (
                &[("duration-seconds", "NaN"), ("resolution", "0x4")],
                20 * 225,
            ),
            (&[("duration-seconds", "inf")], u32::MAX),
            (&[("duration-seconds", "0.1")], 1),
            (&[("resolution", "1x1")], 20),
        ] {
            assert_eq!(tokens(&sampled, headers), (225, video), "{headers:?}");
        }
        let strided = EstimateSettings {
            frames: Frames::Strided {
                fps: 24.0,
                stride: 10,
            },
            ..sampled
        };
        assert_eq!(tokens(&strided, &[]).1, 24 * 225);
        assert_eq!(tokens(&strided, &[("fps", "29.97")]).1, 29 * 225);
    }

    #[test]
    fn frames_and_tokens_are_bounded() {
        let settings = EstimateSettings {
            frames: Frames::Sampled { fps: 2.0, patch: 2 },
            frame: FrameTokens::Static(70),
            min_frames: 4,
            max_frames: 30,
            ..EstimateSettings::default()
        };
        for (seconds, groups) in [("1", 2), ("10", 10), ("100", 15)] {
            let video = tokens(&settings, &[("duration-seconds", seconds)]).1;
            assert_eq!(video, groups * 70, "{seconds} s");
        }
        let capped = EstimateSettings {
            max_video_tokens: 100,
            ..settings
        };
        assert_eq!(tokens(&capped, &[]).1, 100);
        let nothing = EstimateSettings {
            frames: Frames::Sampled {
                fps: 0.01,
                patch: 0,
            },
            min_frames: 0,
            ..capped
        };
        assert_eq!(tokens(&nothing, &[]).1, 1);
    }
}
