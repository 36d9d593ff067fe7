//! One publisher: which endpoint it speaks for, and where its messages stand.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use hashbrown::HashSet;
use parking_lot::Mutex;

use super::apply::Learned;
use super::keys::Holder;
use super::sequence::Sequence;
use super::stats::PublisherStats;

/// Longest model name in a topic.
const LONGEST_MODEL: usize = 256;

/// Which engine writes the messages; their arrays differ after the sixth field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// vLLM, and whatever speaks as it does.
    #[default]
    Vllm,
    /// `SGLang`.
    Sglang,
}

impl Engine {
    /// By its name in the configuration (`kvEventsConfig.engineType`).
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "vllm" => Some(Self::Vllm),
            "sglang" => Some(Self::Sglang),
            _ => None,
        }
    }
}

/// One publisher, from [`KvEvents::open`] to [`KvEvents::close`]. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublisherId(pub(super) u64);

impl PublisherId {
    /// As a number, for hosts in other languages.
    pub fn number(self) -> u64 {
        self.0
    }

    /// From such a number. One that was never given out names no publisher.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What is known about a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherState {
    /// As [`KvEvents::open`] named it.
    pub id: PublisherId,
    /// Slot of its endpoint.
    pub slot: u32,
    /// Name in metrics.
    pub pod: Arc<str>,
    /// Its rank among the endpoint's publishers.
    pub rank: u32,
    /// Its connection stands.
    pub connected: bool,
    /// It has sent a message or answered a replay.
    pub delivered: bool,
    /// Tokens a block, once it has told.
    pub block_tokens: Option<u32>,
    /// Messages since it was opened.
    pub messages: u64,
    /// Messages that wait for a replay.
    pub held: u64,
}

/// What readers know of a publisher.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Tokens a block, once it has told.
    pub(super) block_tokens: Option<u32>,
    /// Model that its topic names.
    pub(super) base_model: Option<Arc<str>>,
    /// Adapters that it has blocks of.
    pub(super) adapters: Arc<HashSet<Arc<str>>>,
    /// It has sent a message or answered a replay.
    pub(super) delivered: bool,
    /// Its connection stands.
    pub(super) connected: bool,
}

impl Facts {
    /// What its engine holds is known.
    pub(super) fn makes_known(&self) -> bool {
        self.delivered && self.connected
    }
}

/// One engine's events.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) id: u64,
    pub(super) holder: Holder,
    pub(super) pod: Arc<str>,
    pub(super) rank: u32,
    pub(super) engine: Engine,
    pub(super) stats: PublisherStats,
    pub(super) facts: ArcSwap<Facts>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sequence: Sequence,
    pub(super) learned: Learned,
    pub(super) topic: Box<[u8]>,
    pub(super) was_connected: bool,
    pub(super) closed: bool,
}

impl Publisher {
    pub(super) fn new(id: u64, holder: Holder, pod: &str, rank: u32, engine: Engine) -> Self {
        Self {
            id,
            holder,
            pod: pod.into(),
            rank,
            engine,
            stats: PublisherStats::default(),
            facts: ArcSwap::from_pointee(Facts {
                connected: true,
                ..Facts::default()
            }),
            state: Mutex::new(State {
                was_connected: true,
                ..State::default()
            }),
        }
    }

    pub(super) fn describe(&self) -> PublisherState {
        let facts = self.facts.load();
        PublisherState {
            id: PublisherId(self.id),
            slot: self.holder.slot,
            pod: Arc::clone(&self.pod),
            rank: self.rank,
            connected: facts.connected,
            delivered: facts.delivered,
            block_tokens: facts.block_tokens,
            messages: self.stats.messages.load(Relaxed),
            held: self.stats.held.load(Relaxed),
        }
    }
}

impl State {
    /// True when the topic is another one than before; only its beginning counts.
    pub(super) fn moves_to(&mut self, topic: &[u8]) -> bool {
        let topic = topic.get(..4 * LONGEST_MODEL).unwrap_or(topic);
        let moves = *self.topic != *topic;
        if moves {
            self.topic = topic.into();
        }
        moves
    }
}

/// The model of a topic `kv@pod@model`.
pub(super) fn base_model(topic: &[u8]) -> Option<Arc<str>> {
    let topic = std::str::from_utf8(topic).ok()?;
    let mut parts = topic.splitn(3, '@');
    let model = parts.nth(2)?;
    (!model.is_empty() && model.len() <= LONGEST_MODEL).then(|| model.into())
}
