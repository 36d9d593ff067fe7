//! The canonical prompt: what the engine will read, in the order of the chat template, as blocks.
//!
//! Each segment (tools, system, main) has its own hasher, so that the order of keys in the JSON does not matter. Text is fed
//! unescaped, leaves parted by one byte; media count as placeholder tokens named by their content; token ids as they are.

use xxhash_rust::xxh64::Xxh64;

use super::media::{MAX_MEDIA, MediaTokens, Medium, MediumKind};
use super::nesting::Container;
use super::sequence::{Limits, Sequence, TOKEN_BYTES};
use super::table::{KeyClass, Segment, Shape};

/// Sequences of one request that are kept; more are counted in tokens but cannot be matched. `OpenAI` takes 2048 inputs.
pub const MAX_SEQUENCES: usize = 2048;
/// Most placeholders of one sound; its length / 4 says little beyond that.
const MAX_AUDIO_TOKENS: u64 = 8192;
/// Placeholders in one body; media beyond that count one token each, so that a small body cannot cost much hashing.
const MAX_PLACEHOLDERS: u64 = 1 << 18;

/// What the value of the main segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainValue {
    Missing,
    Text,
    EmptyList,
    List,
    Other,
}

/// Where the text that comes next goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Sequence,
    Medium(MediumKind),
}

/// Builds the sequences from the values of the prompt-bearing keys. Levels count the containers open inside such a value.
#[derive(Debug)]
pub(super) struct Prompt {
    limits: Limits,
    media_tokens: MediaTokens,
    segment: Segment,
    shape: Shape,
    /// One a segment; of a batch, the sequence being read.
    open: [Sequence; 3],
    /// Whether `open[Main]` holds a sequence yet.
    main_started: bool,
    /// Finished sequences of a batch.
    finished: Vec<Vec<u64>>,
    finished_tokens: u64,
    /// Token ids lying side by side in the batch's own list belong together.
    in_token_run: bool,
    main_value: MainValue,
    level: usize,
    /// Level of the outermost object inside the value.
    object_level: Option<usize>,
    /// Level inside of which nothing counts.
    skipped_level: Option<usize>,
    /// Level and kind of each open object that describes a medium.
    media: Vec<(usize, MediumKind)>,
    /// Of the key before the value that comes next.
    class: KeyClass,
    sink: Sink,
    content: Content,
    placeholders: u64,
    /// Segments that have anything but token ids.
    worded: [bool; 3],
    /// Token ids were met.
    has_ids: bool,
    /// Different media, in the order in which they were met.
    found: Vec<Medium>,
}

/// The content of a medium, as far as it was read.
struct Content {
    hash: Xxh64,
    bytes: u64,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Content")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Prompt {
    pub(super) fn new(limits: Limits, media_tokens: MediaTokens) -> Self {
        Self {
            limits,
            media_tokens,
            segment: Segment::Main,
            shape: Shape::Conversation,
            open: std::array::from_fn(|_| Sequence::new(limits)),
            main_started: false,
            finished: Vec::new(),
            finished_tokens: 0,
            in_token_run: false,
            main_value: MainValue::Missing,
            level: 0,
            object_level: None,
            skipped_level: None,
            media: Vec::new(),
            class: KeyClass::Plain,
            sink: Sink::Sequence,
            content: Content {
                hash: Xxh64::new(0),
                bytes: 0,
            },
            placeholders: 0,
            worded: [false; 3],
            has_ids: false,
            found: Vec::new(),
        }
    }

    /// A prompt-bearing key was read; whatever the same segment held before is forgotten (the last of duplicates counts).
    pub(super) fn start(&mut self, segment: Segment, shape: Shape) {
        self.segment = segment;
        self.shape = shape;
        self.open[segment as usize] = Sequence::new(self.limits);
        self.level = 0;
        self.object_level = None;
        self.skipped_level = None;
        self.media.clear();
        self.class = KeyClass::Plain;
        self.in_token_run = false;
        self.worded[segment as usize] = false;
        if segment == Segment::Main {
            self.has_ids = false;
            self.finished.clear();
            self.finished_tokens = 0;
            self.found.clear();
            self.main_value = MainValue::Other;
            self.main_started = shape != Shape::Batch;
        }
    }

    /// What the main segment's value is.
    pub(super) fn main_value(&self) -> MainValue {
        self.main_value
    }

    /// The prompts are token ids, all of them: nothing has to be tokenised.
    pub(super) fn is_token_ids(&self) -> bool {
        self.has_ids && self.worded == [false; 3]
    }

    /// True when the text of a key that begins here is wanted.
    pub(super) fn begin_key(&mut self) -> bool {
        if self.skipped_level.is_some() {
            return false;
        }
        if self.shape == Shape::Definitions {
            self.sequence().begin_leaf();
        }
        true
    }

    /// Text of a key. True when it is part of the prompt; else it only says what the value is.
    pub(super) fn key_text(&mut self, run: &[u8]) -> bool {
        let counts = self.shape == Shape::Definitions;
        if counts {
            self.sequence().push(run);
        }
        counts
    }

    /// The key ended.
    pub(super) fn end_key(&mut self, class: KeyClass) {
        self.class = if self.shape == Shape::Definitions {
            KeyClass::Plain
        } else {
            class
        };
    }

    /// True when the text of a string that begins here is wanted.
    pub(super) fn begin_string(&mut self) -> bool {
        let class = self.begin_value();
        if self.level == 0 && self.segment == Segment::Main {
            self.main_value = MainValue::Text;
        }
        if self.skipped_level.is_some() || class == KeyClass::Skipped {
            return false;
        }
        self.sink = match (class, self.media.last()) {
            (KeyClass::Media(kind), _) => Sink::Medium(kind),
            (KeyClass::MediaContent, Some(&(level, kind))) if level == self.level => {
                Sink::Medium(kind)
            }
            _ => Sink::Sequence,
        };
        self.begin_element();
        self.worded[self.segment as usize] = true;
        match self.sink {
            Sink::Sequence => self.sequence().begin_leaf(),
            Sink::Medium(_) => {
                self.content.hash.reset(0);
                self.content.bytes = 0;
            }
        }
        true
    }

    /// Text of the string.
    pub(super) fn text(&mut self, run: &[u8]) {
        match self.sink {
            Sink::Sequence => self.sequence().push(run),
            Sink::Medium(_) => {
                self.content.hash.update(run);
                self.content.bytes += run.len() as u64;
            }
        }
    }

    /// The wanted string ended.
    pub(super) fn end_string(&mut self) {
        let Sink::Medium(kind) = self.sink else {
            return;
        };
        let wanted = match kind {
            MediumKind::Image => u64::from(self.media_tokens.image),
            MediumKind::Video => u64::from(self.media_tokens.video),
            MediumKind::Audio => self
                .content
                .bytes
                .div_ceil(TOKEN_BYTES)
                .clamp(1, MAX_AUDIO_TOKENS),
        };
        let tokens = wanted.min(MAX_PLACEHOLDERS - self.placeholders).max(1);
        self.placeholders = (self.placeholders + tokens).min(MAX_PLACEHOLDERS);
        let hash = self.content.hash.digest();
        let placeholder = hash as u32;
        if self.found.len() < MAX_MEDIA && self.found.iter().all(|medium| medium.hash != hash) {
            self.found.push(Medium {
                kind,
                hash,
                tokens: tokens as u32,
            });
        }
        self.sequence().begin_leaf();
        for _ in 0..tokens {
            self.sequence().push_token(placeholder);
        }
        self.sink = Sink::Sequence;
    }

    /// A number: a token id in a batch, text elsewhere.
    pub(super) fn number(&mut self, text: &[u8], value: Option<u64>) {
        let class = self.begin_value();
        if self.skipped_level.is_some() || class == KeyClass::Skipped {
            return;
        }
        if self.shape == Shape::Batch && self.level > 0 && self.object_level.is_none() {
            if self.level == 1 && !self.in_token_run {
                self.begin_element();
                self.in_token_run = true;
            }
            self.has_ids = true;
            let token = value.map_or_else(|| token_id(text), saturated);
            self.sequence().push_token(token);
        } else {
            self.leaf(text);
        }
    }

    /// `true` or `false`; `None` for `null`, which says no more than a missing key.
    pub(super) fn literal(&mut self, text: Option<&[u8]>) {
        let class = self.begin_value();
        if text.is_none() && self.level == 0 && self.segment == Segment::Main {
            self.main_value = MainValue::Missing;
        }
        if let Some(text) = text
            && self.skipped_level.is_none()
            && class != KeyClass::Skipped
        {
            self.leaf(text);
        }
    }

    /// A container opens inside the value, or is the value.
    pub(super) fn open(&mut self, container: Container) {
        let class = self.begin_value();
        if self.level == 0 && self.segment == Segment::Main && container == Container::Array {
            self.main_value = MainValue::EmptyList;
        }
        // The list of a batch is no element itself.
        if self.skipped_level.is_none() && (self.level > 0 || container == Container::Object) {
            self.begin_element();
        }
        self.level += 1;
        if self.skipped_level.is_none() && class == KeyClass::Skipped {
            self.skipped_level = Some(self.level);
        }
        if container == Container::Object {
            self.object_level.get_or_insert(self.level);
            if let KeyClass::Media(kind) = class {
                self.media.push((self.level, kind));
            }
        }
    }

    /// The innermost container closes.
    pub(super) fn close(&mut self) {
        let level = self.level;
        self.object_level.take_if(|open| *open == level);
        self.skipped_level.take_if(|open| *open == level);
        self.media.pop_if(|(open, _)| *open == level);
        self.level = level.saturating_sub(1);
    }

    /// Block ids of each sequence, those of the earlier segments before it, the tokens of all together, and the media.
    pub(super) fn finish(mut self) -> (Vec<Vec<u64>>, u64, Vec<Medium>) {
        let max_blocks = self.limits.max_blocks;
        if self.main_started {
            self.end_element();
        }
        let (mut head, tools_tokens) = self.open[Segment::Tools as usize].finish(self.limits);
        let (system, system_tokens) = self.open[Segment::System as usize].finish(self.limits);
        head.extend(system);
        head.truncate(max_blocks);
        let mut sequences = self.finished;
        if sequences.is_empty() && !head.is_empty() {
            sequences.push(head);
        } else if !head.is_empty() {
            for sequence in &mut sequences {
                sequence.splice(0..0, head.iter().copied());
                sequence.truncate(max_blocks);
            }
        }
        (
            sequences,
            tools_tokens + system_tokens + self.finished_tokens,
            self.found,
        )
    }

    fn sequence(&mut self) -> &mut Sequence {
        &mut self.open[self.segment as usize]
    }

    fn leaf(&mut self, text: &[u8]) {
        self.begin_element();
        self.worded[self.segment as usize] = true;
        let sequence = self.sequence();
        sequence.begin_leaf();
        sequence.push(text);
    }

    /// Bookkeeping that each value needs; gives the class of the key before it.
    fn begin_value(&mut self) -> KeyClass {
        if self.level == 1
            && self.main_value == MainValue::EmptyList
            && self.segment == Segment::Main
        {
            self.main_value = MainValue::List;
        }
        std::mem::take(&mut self.class)
    }

    /// In a batch, an element of the list (or the lone value) is a sequence of its own.
    fn begin_element(&mut self) {
        let of_batch = self.shape == Shape::Batch && self.level <= 1;
        if !of_batch {
            return;
        }
        if self.main_started {
            self.end_element();
        }
        self.main_started = true;
        self.in_token_run = false;
    }

    /// Closes the sequence being read.
    fn end_element(&mut self) {
        let (blocks, tokens) = self.open[Segment::Main as usize].finish(self.limits);
        self.finished_tokens += tokens;
        if self.finished.len() < MAX_SEQUENCES {
            self.finished.push(blocks);
        }
    }
}

/// A token id from a number's text; what is no id (negative, broken, too large) becomes the nearest one.
fn token_id(text: &[u8]) -> u32 {
    if text.iter().all(u8::is_ascii_digit) {
        let value = text.iter().fold(0u64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        });
        return saturated(value);
    }
    float(text).unwrap_or(0.0) as u32
}

fn saturated(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A number's text as a float; `None` when the part of it that was kept is no number.
pub(super) fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
