//! `token-producer`: the prompt as tokens, estimated from its bytes or made by a tokenizer.
//!
//! The scanner of request bodies estimates while it reads: four bytes of text are a token, token ids count as they are, media as placeholders.
//! What media count as is said here.

use crate::plugin::{
    Data, EstimateSettings, FrameTokens, Frames, ParameterError, ParameterKind, Parameters, Parts,
    PluginKind, Role, Shape, TokenizerSettings, parse_duration, tokens_of,
};

const COUNT: Shape = Shape::Integer {
    least: 0,
    most: i32::MAX as i64,
};
const AMOUNT: Shape = Shape::Number {
    least: 0.0,
    most: f64::INFINITY,
};

const RESOLUTION: &[ParameterKind] = &[
    ParameterKind {
        name: "width",
        shape: COUNT,
        default: "640",
        unit: "pixels",
        summary: "Width; 0 means the default.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "height",
        shape: COUNT,
        default: "360",
        unit: "pixels",
        summary: "Height; 0 means the default.",
        ..ParameterKind::BASE
    },
];

const FACTOR: &[ParameterKind] = &[ParameterKind {
    name: "factor",
    shape: COUNT,
    default: "1024",
    unit: "pixels",
    summary: "Pixels that count as a token; 0 means the default.",
    ..ParameterKind::BASE
}];

const DEFAULT_RESOLUTION: ParameterKind = ParameterKind {
    name: "defaultResolution",
    shape: Shape::Object(RESOLUTION),
    default: "{}",
    summary: "Size in mode dynamic where the request does not tell it.",
    ..ParameterKind::BASE
};

const MODE: ParameterKind = ParameterKind {
    name: "mode",
    shape: Shape::Choice(&["dynamic", "static"]),
    default: "\"dynamic\"",
    summary: "From the size, or always the same.",
    ..ParameterKind::BASE
};

const DYNAMIC: ParameterKind = ParameterKind {
    name: "dynamic",
    shape: Shape::Object(FACTOR),
    default: "{}",
    summary: "For mode dynamic.",
    ..ParameterKind::BASE
};

const IMAGE: &[ParameterKind] = &[
    MODE,
    ParameterKind {
        summary: "Size in mode dynamic; that of the image itself is not looked at.",
        ..DEFAULT_RESOLUTION
    },
    ParameterKind {
        name: "static",
        shape: Shape::Object(&[ParameterKind {
            name: "staticToken",
            shape: COUNT,
            default: "1",
            unit: "tokens",
            summary: "What an image counts as; 0 means 1.",
            ..ParameterKind::BASE
        }]),
        default: "{}",
        summary: "For mode static.",
        ..ParameterKind::BASE
    },
    DYNAMIC,
];

const PER_FRAME: &[ParameterKind] = &[
    MODE,
    ParameterKind {
        name: "static",
        shape: Shape::Object(&[ParameterKind {
            name: "numTokensPerFrame",
            shape: COUNT,
            default: "1",
            unit: "tokens",
            summary: "What a frame counts as; 0 means 1.",
            ..ParameterKind::BASE
        }]),
        default: "{}",
        summary: "For mode static.",
        ..ParameterKind::BASE
    },
    DYNAMIC,
];

const FRAMES: &[ParameterKind] = &[
    ParameterKind {
        name: "mode",
        shape: Shape::Choice(&["sampled", "strided"]),
        default: "\"sampled\"",
        summary: "So many a second, or every so many of the video's own.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "minFrames",
        shape: COUNT,
        default: "0",
        unit: "frames",
        summary: "Fewest frames.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "maxFrames",
        shape: COUNT,
        default: "0",
        unit: "frames",
        summary: "Most frames; 0 is no bound.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "sampled",
        shape: Shape::Object(&[
            ParameterKind {
                name: "sampleFPS",
                shape: AMOUNT,
                default: "2",
                unit: "frames per second",
                summary: "Frames that the model looks at; 0 means the default.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "temporalPatchSize",
                shape: COUNT,
                default: "1",
                unit: "frames",
                summary: "Frames that are merged into one; 0 means 1.",
                ..ParameterKind::BASE
            },
        ]),
        default: "{}",
        summary: "For mode sampled.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "strided",
        shape: Shape::Object(&[
            ParameterKind {
                name: "defaultSourceFPS",
                shape: AMOUNT,
                default: "24",
                unit: "frames per second",
                summary: "Frames of the video where x-llm-d-video-fps does not tell them; 0 means the default.",
                ..ParameterKind::BASE
            },
            ParameterKind {
                name: "frameStride",
                shape: COUNT,
                default: "1",
                unit: "frames",
                summary: "Every so many is looked at; 0 means 1.",
                ..ParameterKind::BASE
            },
        ]),
        default: "{}",
        summary: "For mode strided.",
        ..ParameterKind::BASE
    },
];

const VIDEO: &[ParameterKind] = &[
    ParameterKind {
        summary: "Size of a frame where x-llm-d-video-resolution does not tell it.",
        ..DEFAULT_RESOLUTION
    },
    ParameterKind {
        name: "defaultDuration",
        shape: AMOUNT,
        default: "10",
        unit: "seconds",
        summary: "Length where x-llm-d-video-duration-seconds does not tell it; 0 means the default.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "tokensPerFrame",
        shape: Shape::Object(PER_FRAME),
        default: "{}",
        summary: "What a frame counts as.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "frames",
        shape: Shape::Object(FRAMES),
        default: "{}",
        summary: "Which frames count.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "maxVideoTokens",
        shape: COUNT,
        default: "0",
        unit: "tokens",
        summary: "Most that a video counts as; 0 is no bound.",
        ..ParameterKind::BASE
    },
];

const DEFAULT_URL: &str = "http://localhost:8000";

const REMOTE: &[ParameterKind] = &[
    ParameterKind {
        name: "modelName",
        summary: "Model to ask for; that of the request where it is left out.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "url",
        default: "\"http://localhost:8000\"",
        summary: "Where it listens.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "timeout",
        default: "\"5s\"",
        summary: "How long a prompt of text may take.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "mmTimeout",
        default: "\"30s\"",
        summary: "How long one with media may take.",
        ..ParameterKind::BASE
    },
];

const LOCAL: &[ParameterKind] = &[
    ParameterKind {
        name: "path",
        default: "",
        summary: "Folder with tokenizer.json, or that file; nothing is downloaded.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "chatTemplate",
        summary: "File of the chat template; that of the folder where it is left out.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "trustRequestTemplate",
        shape: Shape::Boolean,
        default: "false",
        summary: "Use the template that a request brings, as model servers do that are told to.",
        ..ParameterKind::BASE
    },
    ParameterKind {
        name: "cacheBytes",
        shape: Shape::Integer {
            least: 0,
            most: 1 << 40,
        },
        default: "67108864",
        unit: "bytes",
        summary: "For beginnings of prompts that need not be tokenised again; 0: none.",
        ..ParameterKind::BASE
    },
];

/// The reference's type of that name.
pub const KIND: PluginKind = PluginKind {
    type_name: "token-producer",
    roles: &[Role::Producer],
    summary: "The prompt as tokens: estimated (four bytes of text are one, token ids count as they are, media as placeholders), or its token ids from a tokenizer.",
    parameters: &[
        ParameterKind {
            name: "estimate",
            shape: Shape::Object(&[
                ParameterKind {
                    name: "image",
                    shape: Shape::Object(IMAGE),
                    default: "{}",
                    summary: "What an image counts as.",
                    ..ParameterKind::BASE
                },
                ParameterKind {
                    name: "video",
                    shape: Shape::Object(VIDEO),
                    default: "{}",
                    summary: "What a video counts as: frames times tokens of a frame.",
                    ..ParameterKind::BASE
                },
            ]),
            default: "{}",
            summary: "Estimate from the bytes of the prompt: where neither vllm nor local is given, and for requests that they cannot tokenise.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "modelName",
            summary: "Model to ask the model server for; given alone it stands for vllm with this model.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "vllm",
            shape: Shape::Object(REMOTE),
            summary: "Token ids from a model server or renderer: its render endpoints, or /tokenize where it has none.",
            ..ParameterKind::BASE
        },
        ParameterKind {
            name: "local",
            shape: Shape::Object(LOCAL),
            summary: "Token ids from a Hugging Face tokenizer on this machine. Not in the reference.",
            ..ParameterKind::BASE
        },
    ],
    produces: Some(Data::TokenizedPrompt),
    build: |parameters| {
        let estimate = parameters.object("estimate");
        let settings = estimate.as_ref().and_then(settings).unwrap_or_default();
        Ok(Parts {
            estimate: Some(settings),
            tokenizer: tokenizer(parameters)?,
            ..Parts::default()
        })
    },
    ..PluginKind::BASE
};

fn tokenizer(parameters: &Parameters<'_>) -> Result<Option<TokenizerSettings>, ParameterError> {
    let model = parameters.optional_text("modelName");
    let remote = parameters.object("vllm");
    if let Some(local) = parameters.object("local") {
        if remote.is_some() {
            let problem = "cannot be given beside vllm: one of them makes the token ids";
            return Err(ParameterError::new("local", problem));
        }
        return Ok(Some(TokenizerSettings::Local {
            path: local.text("path").into(),
            chat_template: local.optional_text("chatTemplate").map(Box::from),
            trust_request_template: local.boolean("trustRequestTemplate"),
            cache_bytes: usize::try_from(local.integer("cacheBytes")).unwrap_or_default(),
        }));
    }
    if remote.is_none() && model.is_none() {
        return Ok(None);
    }
    let remote = remote.unwrap_or(parameters.section("vllm"));
    let url = remote.optional_text("url").unwrap_or(DEFAULT_URL);
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        let problem = format!("must be as {DEFAULT_URL}, not \"{url}\"");
        return Err(ParameterError::new("url", problem).within("vllm", None));
    }
    let timeout = |field: &str, default: &str| {
        let text = remote.optional_text(field).unwrap_or(default);
        parse_duration(text)
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| {
                let problem =
                    format!("must be a duration as {default}, more than 0, not \"{text}\"");
                ParameterError::new(field, problem).within("vllm", None)
            })
    };
    Ok(Some(TokenizerSettings::Remote {
        url: url.trim_end_matches('/').into(),
        model: remote.optional_text("modelName").or(model).map(Box::from),
        timeout: timeout("timeout", "5s")?,
        media_timeout: timeout("mmTimeout", "30s")?,
    }))
}

/// `None` cannot be: each object is there by default.
fn settings(estimate: &Parameters<'_>) -> Option<EstimateSettings> {
    let image = estimate.object("image")?;
    let video = estimate.object("video")?;
    let frame = video.object("tokensPerFrame")?;
    let frames = video.object("frames")?;
    let sampled = frames.object("sampled")?;
    let strided = frames.object("strided")?;
    Some(EstimateSettings {
        image_tokens: if image.text("mode") == "static" {
            count(&image.object("static")?, "staticToken", 1)
        } else {
            tokens_of(resolution(&image)?, factor(&image)?)
        },
        frames: if frames.text("mode") == "strided" {
            Frames::Strided {
                fps: amount(&strided, "defaultSourceFPS", 24.0),
                stride: count(&strided, "frameStride", 1),
            }
        } else {
            Frames::Sampled {
                fps: amount(&sampled, "sampleFPS", 2.0),
                patch: count(&sampled, "temporalPatchSize", 1),
            }
        },
        min_frames: count(&frames, "minFrames", 0),
        max_frames: count(&frames, "maxFrames", 0),
        duration: amount(&video, "defaultDuration", 10.0),
        resolution: resolution(&video)?,
        frame: if frame.text("mode") == "static" {
            FrameTokens::Static(count(&frame.object("static")?, "numTokensPerFrame", 1))
        } else {
            FrameTokens::Dynamic {
                factor: factor(&frame)?,
            }
        },
        max_video_tokens: count(&video, "maxVideoTokens", 0),
    })
}

fn resolution(of: &Parameters<'_>) -> Option<(u32, u32)> {
    let size = of.object("defaultResolution")?;
    Some((count(&size, "width", 640), count(&size, "height", 360)))
}

fn factor(of: &Parameters<'_>) -> Option<u32> {
    Some(count(&of.object("dynamic")?, "factor", 1024))
}

/// The reference takes 0 for absent.
fn count(of: &Parameters<'_>, field: &str, default: u32) -> u32 {
    match u32::try_from(of.integer(field)) {
        Ok(0) | Err(_) => default,
        Ok(count) => count,
    }
}

fn amount(of: &Parameters<'_>, field: &str, default: f64) -> f64 {
    let amount = of.number(field);
    if amount > 0.0 { amount } else { default }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::body::MediaTokens;
    use crate::plugin::testing::{built, refused};

    fn media(estimate: &serde_json::Value) -> (u32, u32) {
        let parts = built(&KIND, &json!({"estimate": estimate}));
        let settings = parts.estimate.expect("an estimate");
        let MediaTokens { image, video } = settings.media_tokens(&[]);
        (image, video)
    }

    #[test]
    fn nothing_said_is_the_default() {
        let parts = built(&KIND, &json!({}));
        assert_eq!(parts.estimate, Some(EstimateSettings::default()));
        assert_eq!(media(&json!({})), (225, 4500));
        let zeros = json!({"image": {"dynamic": {"factor": 0}, "defaultResolution": {"width": 0}},
            "video": {"defaultDuration": 0, "frames": {"sampled": {"sampleFPS": 0, "temporalPatchSize": 0}}}});
        assert_eq!(media(&zeros), (225, 4500));
    }

    #[test]
    fn models_count_their_media_in_their_own_way() {
        // Sampled pairs of frames; every frame a constant; an image of its own size.
        let qwen = json!({"video": {"frames": {"sampled": {"sampleFPS": 2, "temporalPatchSize": 2}, "maxFrames": 16}}});
        assert_eq!(media(&qwen), (225, 8 * 225));
        let gemma = json!({"image": {"mode": "static", "static": {"staticToken": 256}},
            "video": {"defaultDuration": 4, "tokensPerFrame": {"mode": "static", "static": {"numTokensPerFrame": 70}},
                "frames": {"mode": "strided", "strided": {"defaultSourceFPS": 30, "frameStride": 15}}, "maxVideoTokens": 500}});
        assert_eq!(media(&gemma), (256, 500));
        let large = json!({"image": {"defaultResolution": {"width": 1920, "height": 1080}, "dynamic": {"factor": 784}},
            "video": {"defaultResolution": {"width": 32, "height": 32}}});
        assert_eq!(media(&large), (2644, 20));
    }

    #[test]
    fn token_ids_come_from_where_the_parameters_say() {
        let tokenizer = |parameters| built(&KIND, &parameters).tokenizer;
        assert_eq!(tokenizer(json!({})), None);
        let remote = |url: &str, model: Option<&str>, seconds: u64| {
            Some(TokenizerSettings::Remote {
                url: url.into(),
                model: model.map(Box::from),
                timeout: Duration::from_secs(seconds),
                media_timeout: Duration::from_secs(30),
            })
        };
        assert_eq!(
            tokenizer(json!({"vllm": {}, "estimate": {}})),
            remote("http://localhost:8000", None, 5)
        );
        assert_eq!(
            tokenizer(json!({"modelName": "m"})),
            remote("http://localhost:8000", Some("m"), 5)
        );
        assert_eq!(
            tokenizer(
                json!({"modelName": "m", "vllm": {"url": "https://render:8443/", "modelName": "n", "timeout": "1m"}})
            ),
            remote("https://render:8443", Some("n"), 60)
        );
        assert_eq!(
            tokenizer(json!({"local": {"path": "/models/m"}})),
            Some(TokenizerSettings::Local {
                path: "/models/m".into(),
                chat_template: None,
                trust_request_template: false,
                cache_bytes: 64 << 20,
            })
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (parameters, problem) in [
            (
                json!({"local": {"path": "p"}, "vllm": {}}),
                "local: cannot be given beside vllm: one of them makes the token ids",
            ),
            (json!({"local": {}}), "local.path: required and missing"),
            (
                json!({"vllm": {"url": "localhost:8000"}}),
                "vllm.url: must be as http://localhost:8000, not \"localhost:8000\"",
            ),
            (
                json!({"vllm": {"timeout": "5"}}),
                "vllm.timeout: must be a duration as 5s, more than 0, not \"5\"",
            ),
            (
                json!({"estimate": {"video": {"frames": {"mode": "all"}}}}),
                "estimate.video.frames.mode: must be one of \"sampled\", \"strided\", not \"all\"",
            ),
        ] {
            assert_eq!(refused(&KIND, &parameters), problem);
        }
    }
}
