//! A scanner of Prometheus text pages (also `OpenMetrics`) that takes only the series an engine is asked for, in one pass over the bytes.
//!
//! A vLLM page has 52 KB in 633 lines, of which seven matter. Each line is rejected by eight of its bytes; nothing is allocated for it.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr_iter, memchr2, memchr3};
use smallvec::SmallVec;

use super::endpoint::EngineMetrics;
use super::engine_spec::{EngineSpec, Role, SeriesSet, Told};
use super::series_spec::LabelFilter;

/// Bytes that are no metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Nothing but white space: an engine always has something to say, a filter that matched nothing has not.
    Empty,
    /// The first line is neither a comment nor a sample: HTML, JSON, an error in plain text.
    NotMetrics,
}

impl fmt::Display for PageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "the metrics page is empty",
            Self::NotMetrics => {
                "the answer is no metrics page: its first line is neither a comment nor a sample"
            }
        })
    }
}

impl std::error::Error for PageError {}

/// All that a page said of what an engine was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageReading {
    /// The engine's own numbers.
    pub metrics: EngineMetrics,
    /// A value for each of `EngineSpec::custom_keys`, where the page has one.
    pub custom: SmallVec<[Option<f64>; 4]>,
    /// Series that were found.
    pub found: SeriesSet,
    /// Series that should be on the page and are not.
    pub missing: SeriesSet,
}

/// The scanner.
#[derive(Clone, Copy, Debug)]
pub struct MetricsPage;

impl MetricsPage {
    /// Takes the wanted series from a page.
    ///
    /// Several series of one name (data-parallel ranks under `engine` labels, several models): waiting, running, all counters (over every
    /// label, such as `finished_reason`) and the number of blocks are summed, KV usage is averaged (ranks have caches of equal size, a request may land on any), the first block
    /// size counts. `LoRA`: the series with the largest value, which is a timestamp; of equals the last.
    /// Values that are no finite numbers are skipped, negative ones count as zero, KV usage is held within 0 to 1.
    ///
    /// # Errors
    /// `PageError` for what is no metrics page. A line that is malformed is skipped: one bad series must not blind the picker.
    pub fn scan(page: &[u8], spec: &EngineSpec) -> Result<EngineMetrics, PageError> {
        Self::read(page, spec).map(|reading| reading.metrics)
    }

    /// As `scan`, with the custom metrics (of several series of one name the first counts) and what was found and what was not.
    ///
    /// # Errors
    /// As `scan`.
    pub fn read(page: &[u8], spec: &EngineSpec) -> Result<PageReading, PageError> {
        Self::check(page)?;
        let mut found = Found {
            custom: SmallVec::from_elem(None, spec.custom_keys.len()),
            ..Found::default()
        };
        let mut start = 0;
        for end in memchr_iter(b'\n', page).chain(std::iter::once(page.len())) {
            if may_be_wanted(page, start, spec) {
                found.take_line(&page[start..end], spec);
            }
            start = end + 1;
        }
        Ok(found.reading(spec))
    }

    /// Whether the bytes are a metrics page at all, told by the first line.
    ///
    /// # Errors
    /// `PageError` when not.
    pub fn check(page: &[u8]) -> Result<(), PageError> {
        check_first_line(page)
    }

    /// Whether a page holds no other families than `EngineSpec::families` asks for, so that the server did filter it.
    pub fn is_filtered(page: &[u8], spec: &EngineSpec) -> bool {
        Self::holds_only(page, &spec.families())
    }

    /// Whether a page holds no other families than these (and those whose names begin with one of them).
    pub fn holds_only<Name: AsRef<str>>(page: &[u8], families: &[Name]) -> bool {
        page.split(|byte| *byte == b'\n').all(|line| {
            let line = line.trim_ascii();
            let name = match line
                .strip_prefix(b"# HELP ")
                .or_else(|| line.strip_prefix(b"# TYPE "))
            {
                Some(comment) => comment,
                None if line.is_empty() || line.starts_with(b"#") => return true,
                None => line,
            };
            families
                .iter()
                .any(|family| name.starts_with(family.as_ref().as_bytes()))
        })
    }
}

/// Rejects a line by eight bytes at an offset that tells the wanted names apart. Bytes beyond the line's end do no harm: names are compared later.
fn may_be_wanted(page: &[u8], start: usize, spec: &EngineSpec) -> bool {
    match page
        .get(start + spec.probe_offset..)
        .and_then(|rest| rest.first_chunk::<8>())
    {
        Some(bytes) => {
            let bytes = u64::from_le_bytes(*bytes);
            spec.probes
                .iter()
                .any(|probe| bytes & probe.mask == probe.key)
                || page[start] <= b' '
        }
        None => start < page.len(),
    }
}

fn check_first_line(page: &[u8]) -> Result<(), PageError> {
    let page = page.trim_ascii_start();
    let line = &page[..memchr(b'\n', page).unwrap_or(page.len())];
    match line.first() {
        None => Err(PageError::Empty),
        Some(b'#') => Ok(()),
        Some(_) => {
            let length = line
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
                .count();
            let (name, rest) = line.split_at(length);
            let named = name.first().is_some_and(|first| !first.is_ascii_digit());
            if named && Sample::parse(rest).is_some() {
                Ok(())
            } else {
                Err(PageError::NotMetrics)
            }
        }
    }
}

type RawLabels<'a> = SmallVec<[(&'a [u8], &'a [u8]); 64]>;

/// What follows the name on a line: labels as written (escapes kept) and the value.
pub(super) struct Sample<'a> {
    labels: RawLabels<'a>,
    pub(super) value: f64,
}

impl<'a> Sample<'a> {
    pub(super) fn parse(rest: &'a [u8]) -> Option<Self> {
        let trimmed = rest.trim_ascii_start();
        let (labels, rest) = match trimmed.strip_prefix(b"{") {
            Some(inside) => parse_labels(inside)?,
            None if trimmed.len() < rest.len() => (RawLabels::new(), trimmed),
            None => return None,
        };
        let rest = rest.trim_ascii_start();
        let length = rest
            .iter()
            .take_while(|byte| !byte.is_ascii_whitespace())
            .count();
        let value = str::from_utf8(&rest[..length]).ok()?.parse().ok()?;
        Some(Self { labels, value })
    }

    pub(super) fn label(&self, name: &str) -> Option<&'a [u8]> {
        self.labels
            .iter()
            .find(|(label, _)| *label == name.as_bytes())
            .map(|(_, value)| *value)
    }

    fn count_in(&self, label: &str) -> Option<u32> {
        str::from_utf8(self.label(label)?).ok()?.parse().ok()
    }

    fn matches(&self, filters: &[LabelFilter]) -> bool {
        filters.iter().all(|(label, wanted)| {
            self.label(label)
                .is_some_and(|value| unescape(value) == wanted.as_ref())
        })
    }
}

/// Labels up to and with the closing brace, and what follows it.
fn parse_labels(mut rest: &[u8]) -> Option<(RawLabels<'_>, &[u8])> {
    let mut labels = RawLabels::new();
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(b"}") {
            return Some((labels, after));
        }
        let equals = memchr(b'=', rest)?;
        let name = rest[..equals].trim_ascii_end();
        let value = rest[equals + 1..].trim_ascii_start().strip_prefix(b"\"")?;
        let end = closing_quote(value)?;
        labels.push((name, &value[..end]));
        rest = value[end + 1..].trim_ascii_start();
        rest = match rest.first()? {
            b',' => &rest[1..],
            b'}' => rest,
            _ => return None,
        };
    }
}

fn closing_quote(value: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b'\\', value.get(from..)?)?;
        if value[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}

/// The value that a label's text stands for; an unknown escape stands for itself.
fn unescape(raw: &[u8]) -> Cow<'_, str> {
    if memchr(b'\\', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    let mut text = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, byte == b'\\') {
            (_, false) => text.push(byte),
            (_, true) => match bytes.next() {
                Some(b'n') => text.push(b'\n'),
                Some(escaped @ (b'"' | b'\\')) => text.push(escaped),
                Some(other) => text.extend([b'\\', other]),
                None => text.push(b'\\'),
            },
        }
    }
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

/// What has been found so far; borrows from the page until the end.
#[derive(Default)]
struct Found<'a> {
    waiting: Option<f64>,
    running: Option<f64>,
    kv_usage: Option<(f64, u32)>,
    adapters: Option<Adapters<'a>>,
    block_size: Option<u32>,
    num_blocks: Option<u32>,
    counters: [Option<Counter>; SeriesSet::COUNTERS],
    custom: SmallVec<[Option<f64>; 4]>,
    seen: SeriesSet,
}

/// A sum over the series of the best rank that the page has shown so far.
#[derive(Clone, Copy)]
struct Counter {
    rank: u8,
    sum: f64,
}

struct Adapters<'a> {
    timestamp: f64,
    running: &'a [u8],
    waiting: &'a [u8],
    limit: Option<u32>,
}

impl<'a> Found<'a> {
    fn take_line(&mut self, line: &'a [u8], spec: &EngineSpec) {
        let line = line.trim_ascii_start();
        let Some(length) = memchr3(b'{', b' ', b'\t', line) else {
            return;
        };
        // Most of what gets here are buckets of a wanted histogram: told apart by their length, mostly.
        let (name, rest) = line.split_at(length);
        let mut wanted = spec.wanted.iter();
        let Some(wanted) = wanted.find(|wanted| *wanted.name.as_bytes() == *name) else {
            return;
        };
        let Some(sample) = Sample::parse(rest).filter(|sample| sample.value.is_finite()) else {
            return;
        };
        for told in &wanted.roles {
            if sample.matches(&told.filters) {
                self.take(told, &sample, spec);
            }
        }
    }

    fn take(&mut self, told: &Told, sample: &Sample<'a>, spec: &EngineSpec) {
        let role = told.role;
        self.seen.insert(role);
        let value = sample.value.max(0.0);
        if let Some(place) = role.optional_counter() {
            return count(&mut self.counters[place], told.rank, value);
        }
        let add = |sum: &mut Option<f64>| *sum = Some((sum.unwrap_or(0.0) + value).min(f64::MAX));
        match role {
            Role::Custom(index) => {
                let known = &mut self.custom[usize::from(index)];
                *known = known.or(Some(sample.value));
            }
            Role::Waiting => add(&mut self.waiting),
            Role::Running => add(&mut self.running),
            Role::KvUsage => {
                let (sum, count) = self.kv_usage.unwrap_or_default();
                self.kv_usage = Some((sum + value.min(1.0), count + 1));
            }
            Role::BlockSize => self.take_block_size(Some(value as u32)),
            Role::NumBlocks => self.add_blocks(Some(value as u32)),
            Role::CacheInfo => {
                self.take_block_size(sample.count_in(&spec.block_size_label));
                self.add_blocks(sample.count_in(&spec.num_blocks_label));
            }
            Role::Adapters
                if self
                    .adapters
                    .as_ref()
                    .is_none_or(|newest| value >= newest.timestamp) =>
            {
                self.adapters = Some(Adapters {
                    timestamp: value,
                    running: sample.label("running_lora_adapters").unwrap_or_default(),
                    waiting: sample.label("waiting_lora_adapters").unwrap_or_default(),
                    limit: sample.count_in("max_lora"),
                });
            }
            // An older series of adapters; the optional counters are taken above.
            _ => {}
        }
    }

    fn take_block_size(&mut self, tokens: Option<u32>) {
        self.block_size = self.block_size.or(tokens.filter(|tokens| *tokens > 0));
    }

    fn add_blocks(&mut self, blocks: Option<u32>) {
        if let Some(blocks) = blocks.filter(|blocks| *blocks > 0) {
            self.num_blocks = Some(self.num_blocks.unwrap_or(0).saturating_add(blocks));
        }
    }

    fn reading(mut self, spec: &EngineSpec) -> PageReading {
        let (custom, found) = (std::mem::take(&mut self.custom), self.seen);
        PageReading {
            metrics: self.metrics(),
            custom,
            found,
            missing: spec.required.without(found),
        }
    }

    fn metrics(self) -> EngineMetrics {
        let [
            first_tokens,
            first_token_seconds,
            token_gaps,
            token_gap_seconds,
            output_tokens,
            finished_requests,
            queried_tokens,
            cached_tokens,
        ] = self
            .counters
            .map(|counter| counter.map(|counter| counter.sum));
        let mut metrics = EngineMetrics {
            waiting: self.waiting,
            running: self.running,
            kv_usage: self.kv_usage.map(|(sum, count)| sum / f64::from(count)),
            block_size: self.block_size,
            num_blocks: self.num_blocks,
            first_tokens,
            first_token_seconds,
            token_gaps,
            token_gap_seconds,
            output_tokens,
            finished_requests,
            queried_tokens,
            cached_tokens,
            ..EngineMetrics::default()
        };
        if let Some(adapters) = self.adapters {
            metrics.running_adapters = adapter_list(adapters.running);
            metrics.waiting_adapters = adapter_list(adapters.waiting);
            metrics
                .waiting_adapters
                .retain(|adapter| !metrics.running_adapters.contains(adapter));
            metrics.max_adapters = adapters.limit;
        }
        metrics
    }
}

/// Adds a sample to a counter; one of a better rank takes the place of what was added before.
fn count(counter: &mut Option<Counter>, rank: u8, value: f64) {
    let before = match *counter {
        Some(known) if known.rank < rank => return,
        Some(known) if known.rank == rank => known.sum,
        _ => 0.0,
    };
    let sum = (before + value).min(f64::MAX);
    *counter = Some(Counter { rank, sum });
}

fn adapter_list(raw: &[u8]) -> Vec<Box<str>> {
    unescape(raw)
        .split(',')
        .map(str::trim)
        .filter(|adapter| !adapter.is_empty())
        .map(Into::into)
        .collect()
}
