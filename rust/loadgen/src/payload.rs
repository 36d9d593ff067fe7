//! Chat-completions bodies in groups that share a prompt, and their `ext_proc` frames: built once, patched per request.

use std::ops::Range;
use std::sync::Arc;

use crate::error::LoadError;
use crate::wire::{self, BodyMode, Direction, ProtocolConfig};

/// All templates of a run together stay below this many bytes.
const TEMPLATE_BUDGET: usize = 2 << 30;
/// Random text is cut from a pool at a random offset, so that two tails are practically never equal.
const TAIL_OFFSETS: usize = 1 << 20;
/// Length of a request id, written like a UUID.
const REQUEST_ID_LENGTH: usize = 36;

/// What the bodies look like.
#[derive(Clone, Debug)]
pub struct BodyShape {
    /// Exact length of a body in bytes.
    pub bytes: usize,
    /// Groups of requests that share the start of their prompt.
    pub groups: usize,
    /// Part of the prompt that is common to its group, 0 to 1.
    pub shared: f64,
    /// Model named in the body.
    pub model: String,
    /// Ask for an event stream.
    pub stream: bool,
}

/// A body and where its text of its own lies.
#[derive(Debug)]
pub struct Body {
    /// The JSON document.
    pub bytes: Vec<u8>,
    /// The part of the prompt that is different in each request.
    pub tail: Range<usize>,
}

impl BodyShape {
    /// One body per group, seeded by the group's number, so that two runs send the same prompts.
    ///
    /// # Errors
    /// The body is too short for its JSON, there is no group, or the templates would not fit the memory budget.
    pub fn bodies(&self) -> Result<Vec<Body>, LoadError> {
        let opening = format!(
            r#"{{"model":{},"max_tokens":16,"stream":{},"messages":[{{"role":"user","content":""#,
            serde_json::Value::from(self.model.as_str()),
            self.stream
        );
        let closing = r#""}]}"#;
        let frame = opening.len() + closing.len();
        if self.bytes < frame {
            return Err(LoadError::Argument(format!(
                "--body-bytes must be at least {frame} to hold the JSON around the prompt"
            )));
        }
        if self.groups == 0 || !(0.0..=1.0).contains(&self.shared) {
            return Err(LoadError::Argument(
                "--groups must be at least 1 and --shared between 0 and 1".to_owned(),
            ));
        }
        if self.groups.saturating_mul(self.bytes) > TEMPLATE_BUDGET {
            return Err(LoadError::Argument(
                "--groups times --body-bytes must stay below 2 GiB".to_owned(),
            ));
        }
        let prompt = self.bytes - frame;
        let shared = (prompt as f64 * self.shared).round() as usize;
        Ok((0..self.groups)
            .map(|group| {
                let mut bytes = Vec::with_capacity(self.bytes);
                bytes.extend_from_slice(opening.as_bytes());
                write_text(
                    &mut bytes,
                    prompt,
                    &mut fastrand::Rng::with_seed(group as u64 + 1),
                );
                let tail = opening.len() + shared..bytes.len();
                bytes.extend_from_slice(closing.as_bytes());
                Body { bytes, tail }
            })
            .collect())
    }
}

/// Letters with a space now and then: text that JSON needs not escape.
fn write_text(out: &mut Vec<u8>, length: usize, random: &mut fastrand::Rng) {
    out.extend((0..length).map(|_| {
        if random.u8(..6) == 0 {
            b' '
        } else {
            random.lowercase() as u8
        }
    }));
}

/// Random text from which tails are cut. It takes a while to make: once a run, before its time begins.
#[derive(Clone, Debug)]
pub struct TailText(Arc<[u8]>);

impl TailText {
    /// Text for the tails of these bodies.
    pub fn new(bodies: &[Body]) -> Self {
        let longest = bodies.iter().map(|body| body.tail.len()).max().unwrap_or(0);
        let mut text = Vec::with_capacity(TAIL_OFFSETS + longest);
        write_text(&mut text, TAIL_OFFSETS + longest, &mut fastrand::Rng::new());
        Self(text.into())
    }
}

/// Source of the parts that differ from request to request; one per load thread.
#[derive(Debug)]
pub struct Variation {
    text: TailText,
    random: fastrand::Rng,
}

impl Variation {
    /// Cuts its tails from `text`.
    pub fn new(text: TailText) -> Self {
        Self {
            text,
            random: fastrand::Rng::new(),
        }
    }

    /// A number below `groups`.
    pub fn group(&mut self, groups: usize) -> usize {
        self.random.usize(..groups)
    }

    /// Fresh random text of `length` bytes, at most the longest tail of the bodies.
    pub fn tail(&mut self, length: usize) -> &[u8] {
        let start = self.random.usize(..TAIL_OFFSETS);
        &self.text.0[start..start + length]
    }

    /// A request id in the form of a UUID.
    pub fn request_id(&mut self) -> [u8; REQUEST_ID_LENGTH] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = *b"00000000-0000-4000-8000-000000000000";
        let mut bits = self.random.u128(..);
        for byte in &mut id {
            if *byte == b'0' {
                *byte = DIGITS[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        id
    }
}

/// How bodies are put into messages.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// As the processing mode of the filter.
    pub mode: BodyMode,
    /// Longest piece of a body in one message (not with `Buffered`).
    pub chunk_bytes: usize,
    /// `protocol_config` of the first message, if it is sent.
    pub protocol_config: Option<ProtocolConfig>,
    /// The last piece is an empty message with `end_of_stream`, as Envoy sends it where it does not know the end yet.
    pub empty_last: bool,
}

/// The frames of one group's requests.
#[derive(Debug)]
pub struct Template {
    frames: Vec<u8>,
    request_id: Range<usize>,
    /// Parts of the body that are replaced, in order; together as long as the body's tail.
    tails: Vec<Range<usize>>,
    tail_bytes: usize,
    /// Where the headers message ends.
    pub headers_end: usize,
    /// Number of body messages.
    pub body_messages: usize,
    /// Length of the body.
    pub body_bytes: usize,
}

impl Template {
    /// The frames of `body`.
    pub fn new(body: &Body, framing: Framing, path: &str) -> Self {
        let mut frames = Vec::with_capacity(body.bytes.len() + 2048);
        let headers = [
            (":authority", "gateway.example.com".to_owned()),
            (":path", path.to_owned()),
            (":method", "POST".to_owned()),
            (":scheme", "http".to_owned()),
            ("accept", "application/json".to_owned()),
            ("accept-encoding", "gzip, deflate".to_owned()),
            (
                "authorization",
                "Bearer sk-0123456789abcdef0123456789abcdef".to_owned(),
            ),
            ("content-type", "application/json".to_owned()),
            ("content-length", body.bytes.len().to_string()),
            ("user-agent", "OpenAI/Python 1.99.0".to_owned()),
            ("x-forwarded-for", "10.0.0.7".to_owned()),
            ("x-forwarded-proto", "http".to_owned()),
            ("x-request-id", "0".repeat(REQUEST_ID_LENGTH)),
        ];
        let request_id = wire::write_headers(
            &mut frames,
            Direction::Request,
            &headers,
            framing.protocol_config,
            "x-request-id",
        )
        .unwrap_or(0..0);
        let headers_end = frames.len();
        let piece = if framing.mode == BodyMode::Buffered {
            body.bytes.len()
        } else {
            framing.chunk_bytes
        };
        let mut tails = Vec::new();
        let mut offset = 0;
        let mut body_messages = 0;
        for chunk in body.bytes.chunks(piece.max(1)) {
            let last = offset + chunk.len() == body.bytes.len() && !framing.empty_last;
            let written = wire::write_body(&mut frames, Direction::Request, chunk, last);
            let from = body.tail.start.clamp(offset, offset + chunk.len()) - offset;
            let to = body.tail.end.clamp(offset, offset + chunk.len()) - offset;
            if from < to {
                tails.push(written.start + from..written.start + to);
            }
            offset += chunk.len();
            body_messages += 1;
        }
        if framing.empty_last {
            wire::write_body(&mut frames, Direction::Request, b"", true);
            body_messages += 1;
        }
        Self {
            frames,
            request_id,
            tails,
            tail_bytes: body.tail.len(),
            headers_end,
            body_messages,
            body_bytes: body.bytes.len(),
        }
    }

    /// The frames of one request: a copy with its own id and tail.
    pub fn instantiate(&self, variation: &mut Variation) -> Vec<u8> {
        let mut frames = self.frames.clone();
        let id = variation.request_id();
        frames[self.request_id.clone()].copy_from_slice(&id[..self.request_id.len()]);
        let mut text = variation.tail(self.tail_bytes);
        for range in &self.tails {
            let (piece, rest) = text.split_at(range.len());
            frames[range.clone()].copy_from_slice(piece);
            text = rest;
        }
        frames
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn shape(bytes: usize, shared: f64) -> BodyShape {
        BodyShape {
            bytes,
            groups: 3,
            shared,
            model: "bench".to_owned(),
            stream: false,
        }
    }

    #[test]
    fn bodies_are_json_of_the_exact_length_and_share_what_they_should() {
        for bytes in [120, 8192, 65_537] {
            for body in shape(bytes, 0.8).bodies().unwrap() {
                assert_eq!(body.bytes.len(), bytes);
                let document: serde_json::Value = serde_json::from_slice(&body.bytes).unwrap();
                let prompt = document["messages"][0]["content"].as_str().unwrap();
                let own = body.tail.len() as f64 / prompt.len() as f64;
                assert!((own - 0.2).abs() < 0.03, "{own}");
            }
        }
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(matches!(
            shape(10, 0.5).bodies(),
            Err(LoadError::Argument(_))
        ));
        assert!(matches!(
            shape(1000, 1.5).bodies(),
            Err(LoadError::Argument(_))
        ));
        assert!(matches!(
            BodyShape {
                groups: 1 << 22,
                ..shape(1000, 0.5)
            }
            .bodies(),
            Err(LoadError::Argument(_))
        ));
    }

    #[test]
    fn a_request_differs_from_its_template_only_in_id_and_tail() {
        let bodies = shape(40_000, 0.8).bodies().unwrap();
        let body = &bodies[0];
        let framing = Framing {
            mode: BodyMode::FullDuplexStreamed,
            chunk_bytes: 16_000,
            protocol_config: None,
            empty_last: true,
        };
        let template = Template::new(body, framing, "/v1/chat/completions");
        let mut variation = Variation::new(TailText::new(&bodies));
        let (first, second) = (
            template.instantiate(&mut variation),
            template.instantiate(&mut variation),
        );
        assert_eq!(template.body_messages, 4);
        assert_eq!(
            template
                .tails
                .iter()
                .map(ExactSizeIterator::len)
                .sum::<usize>(),
            body.tail.len()
        );
        assert_ne!(first, second);
        for (index, (left, right)) in first.iter().zip(&second).enumerate() {
            let may_differ = template.request_id.contains(&index)
                || template.tails.iter().any(|tail| tail.contains(&index));
            assert!(left == right || may_differ, "byte {index}");
        }
    }
}
