//! Token counts in JSON responses and in streams of events.
//!
//! Nothing of the response is kept: each event (or the one JSON body) runs through the incremental tokenizer.

use super::capture::Key;
use super::handler::{Handler, Literal};
use super::json::Json;
use super::nesting::Container;
use super::prompt::float;
use super::scan::ScanLimits;
use super::sse::{Event, Lines};
use super::usage::Usage;

/// How text is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    /// One JSON object.
    Json,
    /// Server-sent events.
    Events,
}

/// What is at the end of a stream of `OpenAI`'s.
const DONE: &[u8] = b"[DONE]";

/// Reads text in pieces, in bounded memory.
#[derive(Debug)]
pub(super) struct TextUsage {
    /// `None`: the response is one JSON object.
    lines: Option<Lines>,
    json: Json,
    reader: Reader,
    total: Counts,
    /// How much of [`DONE`] the data line has been so far; `None`: something else.
    done_matched: Option<usize>,
    events: u64,
    done: bool,
}

impl TextUsage {
    /// Before a response.
    pub(super) fn new(kind: TextKind) -> Self {
        Self {
            lines: (kind == TextKind::Events).then(Lines::new),
            json: Json::new(ScanLimits::GO_DEPTH),
            reader: Reader::new(),
            total: Counts::default(),
            done_matched: Some(0),
            events: 0,
            done: false,
        }
    }

    /// Reads the next piece, of any size.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        match self.lines.take() {
            None => self.json.feed(piece, &mut self.reader),
            Some(mut lines) => {
                lines.feed(piece, |event| self.event(event));
                self.lines = Some(lines);
            }
        }
    }

    /// Events with data so far, `[DONE]` left out; of a JSON response, 0.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Whether text, reasoning or the arguments of a tool call have come. An event that only names the role has none.
    pub(super) fn content_seen(&self) -> bool {
        self.reader.content_seen
    }

    /// Whether the stream said `[DONE]`.
    pub(super) fn done_seen(&self) -> bool {
        self.done || self.done_matched == Some(DONE.len())
    }

    /// The counts so far: those of complete events (each as last reported), or what a JSON body has shown.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.total;
        if self.lines.is_none() || self.json.is_complete() {
            counts.merge(self.reader.counts);
        }
        counts
    }

    /// Takes data that is no text of its own: part of one event, or its end.
    pub(super) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Data(bytes) => {
                if let Some(matched) = self.done_matched {
                    self.done_matched = DONE[matched..]
                        .starts_with(bytes)
                        .then_some(matched + bytes.len());
                }
                self.json.feed(bytes, &mut self.reader);
            }
            Event::End => {
                self.done = self.done_seen();
                if self.json.is_complete() {
                    self.total.merge(self.reader.counts);
                    self.events += 1;
                }
                self.done_matched = Some(0);
                self.json.reset();
                self.reader.reset();
            }
        }
    }
}

/// Counts by kind; `None`: not seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cached: Option<u64>,
}

impl Counts {
    /// Anthropic reports the input at the start and the output at the end, so each count stands until it is said anew.
    pub(super) fn merge(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached = later.cached.or(self.cached);
    }

    /// As told to others; `None` when nothing was reported.
    pub(super) fn usage(self) -> Option<Usage> {
        self.input.or(self.output).or(self.cached)?;
        Some(Usage {
            input_tokens: self.input.unwrap_or(0),
            output_tokens: self.output.unwrap_or(0),
            cached_tokens: self.cached,
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Usage,
    /// `response` of a responses event, `message` of an Anthropic one: may hold the usage.
    Envelope,
    Details,
    Input,
    Output,
    Cached,
    CacheRead,
    Content,
}

const NAMES: &[(&[u8], Name)] = &[
    (b"usage", Name::Usage),
    // SGLang's own API.
    (b"meta_info", Name::Usage),
    (b"response", Name::Envelope),
    (b"message", Name::Envelope),
    (b"prompt_tokens_details", Name::Details),
    (b"input_tokens_details", Name::Details),
    (b"prompt_tokens", Name::Input),
    (b"input_tokens", Name::Input),
    (b"completion_tokens", Name::Output),
    (b"output_tokens", Name::Output),
    (b"cached_tokens", Name::Cached),
    (b"cache_read_input_tokens", Name::CacheRead),
    (b"content", Name::Content),
    (b"text", Name::Content),
    (b"delta", Name::Content),
    (b"reasoning", Name::Content),
    (b"reasoning_content", Name::Content),
    (b"thinking", Name::Content),
    (b"arguments", Name::Content),
    (b"partial_json", Name::Content),
];

/// Finds the counts in one JSON object. Levels count the containers open below the object itself.
#[derive(Debug)]
struct Reader {
    level: usize,
    key: Key,
    name: Name,
    /// Inside a top-level envelope: repeats of the request in it are no content.
    in_envelope: bool,
    usage_level: Option<usize>,
    details_level: Option<usize>,
    counts: Counts,
    content_seen: bool,
}

impl Reader {
    fn new() -> Self {
        Self {
            level: 0,
            key: Key::new(),
            name: Name::Other,
            in_envelope: false,
            usage_level: None,
            details_level: None,
            counts: Counts::default(),
            content_seen: false,
        }
    }

    fn reset(&mut self) {
        *self = Self {
            content_seen: self.content_seen,
            ..Self::new()
        };
    }
}

impl Handler for Reader {
    fn begin_key(&mut self) -> bool {
        self.key.clear();
        true
    }

    fn end_key(&mut self) {
        let key = self.key.bytes();
        self.name = NAMES
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, name)| *name)
            .unwrap_or_default();
    }

    fn begin_string(&mut self, _at: usize) -> bool {
        let content = std::mem::take(&mut self.name) == Name::Content;
        content && !self.in_envelope && !self.content_seen
    }

    fn end_string(&mut self, _end: usize) {}

    fn text(&mut self, run: &[u8], of_key: bool) {
        if of_key {
            self.key.push(run);
        } else {
            self.content_seen = true;
        }
    }

    fn number(&mut self, text: &[u8], _value: Option<u64>) {
        let count = || {
            float(text)
                .filter(|value| *value >= 0.0)
                .map(|value| value as u64)
        };
        let name = std::mem::take(&mut self.name);
        if self.details_level == Some(self.level) {
            if name == Name::Cached {
                self.counts.cached = count();
            }
        } else if self.usage_level == Some(self.level) {
            match name {
                Name::Input => self.counts.input = count(),
                Name::Output => self.counts.output = count(),
                Name::Cached | Name::CacheRead => self.counts.cached = count(),
                _ => {}
            }
        }
    }

    fn literal(&mut self, _literal: Literal) {
        self.name = Name::Other;
    }

    fn open(&mut self, container: Container) {
        let name = std::mem::take(&mut self.name);
        let level = self.level;
        self.level += 1;
        if container != Container::Object {
            return;
        }
        match name {
            Name::Envelope if level == 0 => self.in_envelope = true,
            Name::Usage if level == 0 || level == 1 && self.in_envelope => {
                self.usage_level = Some(self.level);
            }
            Name::Details if self.usage_level == Some(level) => {
                self.details_level = Some(self.level);
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        let level = self.level;
        self.usage_level.take_if(|open| *open == level);
        self.details_level.take_if(|open| *open == level);
        self.level = level.saturating_sub(1);
        self.in_envelope &= self.level > 0;
    }
}
