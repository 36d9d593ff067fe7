//! What model servers say about their caches, as it arrives, and the index that follows from it.
//!
//! Sockets belong to the host: it gives each message to [`KvEvents::receive`], asks the publisher for a replay when told to, and gives what
//! comes back to [`KvEvents::replayed`]. A publisher can only spoil its own entries: each has lanes of its own in the index, bounds on what it may
//! name and make wait, and is read by a decoder that believes no length.
//!
//! An endpoint may have several publishers, one for each data-parallel rank. They are separate engines with separate caches, and a prompt is served by
//! one of them: each is an owner of its own in the index, so that clearing one leaves the others alone and a prefix never counts as held because
//! one engine has its beginning and another the rest. [`Holder`] tells which owner belongs to which endpoint.

mod apply;
mod cursor;
mod decode;
mod event;
mod extras;
mod keys;
mod names;
mod prefills;
mod publisher;
mod roster;
mod sequence;
mod stats;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

pub use keys::{BlockContents, Holder, KnownEndpoints, PromptKeys};
pub use names::MOST_TIERS;
pub(crate) use prefills::PendingPrompts;
pub use publisher::{Engine, PublisherId, PublisherState};

use self::apply::Applier;
use self::keys::View;
use self::names::Tiers;
use self::publisher::{Facts, Publisher, State, base_model};
use self::roster::{Register, Roster};
use self::sequence::Sequence;
use self::stats::{Stats, add};
use crate::pool::Snapshot;
use crate::prefix::exact::{ExactIndex, MAX_TIERS, Tier};
use crate::stats::{Family, FamilySource};
use crate::tokens::TokenSequence;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The index knows it.
    Applied,
    /// It waits for the replay that is outstanding.
    Held,
    /// It waits, as messages before it are missing: the host asks the publisher to replay, or answers at once with
    /// `replay_ended(false)` when it cannot. It is not told again until the replay has ended.
    Replay {
        /// Sequence number to ask from. May be one that is known already: it tells whether the publisher is still the same process.
        from: u64,
    },
    /// It changes nothing: it came before, cannot be read, or its publisher is closed.
    Ignored,
}

/// Every publisher, and what they taught. Shared by the host's socket threads (which write) and decisions (which read without waiting for them).
pub struct KvEvents {
    index: Arc<ExactIndex>,
    tiers: Tiers,
    stats: Stats,
    publishers: RwLock<Register>,
    last: AtomicU64,
    view: ArcSwap<View>,
    /// Held while the view is replaced.
    roster: Mutex<Roster>,
    /// Whose prefill is done with what is announced; `None`: nobody asks.
    prompts: Option<Arc<PendingPrompts>>,
}

impl fmt::Debug for KvEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KvEvents")
            .field("publishers", &self.publishers.read().by_id.len())
            .finish_non_exhaustive()
    }
}

impl KvEvents {
    /// No publisher yet.
    pub fn new(index: Arc<ExactIndex>) -> Self {
        Self {
            index,
            tiers: Tiers::default(),
            stats: Stats::default(),
            publishers: RwLock::default(),
            last: AtomicU64::new(0),
            view: ArcSwap::default(),
            roster: Mutex::default(),
            prompts: None,
        }
    }

    /// No publisher yet; tells `prompts` what is announced.
    pub(crate) fn telling(index: Arc<ExactIndex>, prompts: Arc<PendingPrompts>) -> Self {
        Self {
            prompts: Some(prompts),
            ..Self::new(index)
        }
    }

    /// The index that is written to.
    pub fn index(&self) -> &Arc<ExactIndex> {
        &self.index
    }

    /// A publisher that will be subscribed to. `owner`: slot of its endpoint; `pod`: name in metrics, `ip:port`. A slot may have several, of different ranks.
    pub fn open(&self, owner: u32, pod: &str, rank: u32, form: Engine) -> PublisherId {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        let mut publishers = self.publishers.write();
        let holder = publishers.holder(owner);
        let publisher = Publisher::new(id, holder, pod, rank, form);
        let facts = publisher.facts.load_full();
        publishers.insert(publisher);
        drop(publishers);
        self.show(|roster| roster.add(id, holder, &facts));
        PublisherId(id)
    }

    /// The publisher is gone, and with it what it said. The endpoint's lanes are closed with its last publisher.
    pub fn close(&self, publisher: PublisherId) {
        let Some(closing) = self.find(publisher) else {
            return;
        };
        {
            let mut state = closing.state.lock();
            self.applier(&closing, &mut state).0.drop_entries();
            *state = State {
                closed: true,
                ..State::default()
            };
        }
        // Only now may its number in the index be another's.
        let mut publishers = self.publishers.write();
        if let Some(owner) = publishers.remove(&closing) {
            self.index.close(owner);
        }
        drop(publishers);
        self.show(|roster| roster.remove(publisher.0));
    }

    /// Empties a number of the index that is no publisher's any more. False, and nothing is done, while it is one's.
    pub(crate) fn close_unused(&self, owner: u32) -> bool {
        let publishers = self.publishers.write();
        let used = publishers.uses(owner);
        if !used {
            self.index.close(owner);
        }
        drop(publishers);
        !used
    }

    /// The endpoint of a slot is gone: its publishers are closed, before the slot can be another's.
    pub fn close_slot(&self, slot: u32) {
        let of_slot = self.publishers.read().ids_of(slot).to_vec();
        for id in of_slot {
            self.close(PublisherId(id));
        }
    }

    /// The publisher's connection was lost, or is there again. Its entries stay: the next message tells whether anything was missed.
    pub fn connected(&self, publisher: PublisherId, connected: bool) {
        let Some(publisher) = self.find(publisher) else {
            return;
        };
        let mut state = publisher.state.lock();
        if connected && !state.was_connected {
            let (mut applier, sequence) = self.applier(&publisher, &mut state);
            sequence.doubt(&mut applier);
            self.settle(&publisher, &state, false);
        }
        state.was_connected = connected;
        self.update(&publisher, |facts| facts.connected = connected);
    }

    /// Asks for what the publisher has kept before it sends anything: the cache of an idle engine is known at once, and after a lost
    /// connection it is known at once whether anything was missed. For hosts that can ask for a replay.
    pub fn join(&self, publisher: PublisherId) -> Received {
        let Some(publisher) = self.find(publisher) else {
            return Received::Ignored;
        };
        let received = publisher.state.lock().sequence.join();
        self.count(received)
    }

    /// A message as it was published: its frames.
    pub fn receive(
        &self,
        publisher: PublisherId,
        topic: &[u8],
        sequence: &[u8],
        payload: &[u8],
    ) -> Received {
        let Some(publisher) = self.find(publisher) else {
            return Received::Ignored;
        };
        add(&publisher.stats.messages, 1);
        let Some(number) = self.number(sequence) else {
            return Received::Ignored;
        };
        let mut state = publisher.state.lock();
        if state.closed {
            return Received::Ignored;
        }
        if state.moves_to(topic) {
            let model = base_model(topic);
            self.update(&publisher, |facts| facts.base_model = model);
        }
        let (mut applier, sequence) = self.applier(&publisher, &mut state);
        let received = sequence.receive(number, payload, &mut applier);
        self.settle(&publisher, &state, true);
        self.count(received)
    }

    /// A message of a replay: its frames.
    pub fn replayed(&self, publisher: PublisherId, sequence: &[u8], payload: &[u8]) {
        let Some(publisher) = self.find(publisher) else {
            return;
        };
        let Some(number) = self.number(sequence) else {
            return;
        };
        let mut state = publisher.state.lock();
        if state.closed {
            return;
        }
        let (mut applier, sequence) = self.applier(&publisher, &mut state);
        sequence.replayed(number, payload, &mut applier);
        self.settle(&publisher, &state, true);
    }

    /// No more comes of the replay. `complete`: the publisher sent all it had. Applies what waited; when messages are still missing, the
    /// publisher's entries go and it begins anew with the newest. May ask again: when the publisher turned out to be a new process meanwhile.
    pub fn replay_ended(&self, publisher: PublisherId, complete: bool) -> Received {
        let Some(publisher) = self.find(publisher) else {
            return Received::Ignored;
        };
        add(
            if complete {
                &self.stats.replays_complete
            } else {
                &self.stats.replays_incomplete
            },
            1,
        );
        let mut state = publisher.state.lock();
        if state.closed {
            return Received::Ignored;
        }
        let (mut applier, sequence) = self.applier(&publisher, &mut state);
        let received = sequence.replay_ended(complete, &mut applier);
        self.settle(&publisher, &state, complete);
        self.count(received)
    }

    /// A request's prompts as the index is asked for them, once for each block size (and adapter) that publishers use. `model`: what the engine will be asked for; `cache_salt`: of the request's body.
    pub fn keys(
        &self,
        model: &str,
        cache_salt: Option<&str>,
        sequences: &[TokenSequence],
    ) -> Vec<PromptKeys> {
        self.view.load().keys(model, cache_salt, sequences)
    }

    /// Each publisher as it stands, by the order in which they were opened. For people who look why an endpoint is not known.
    pub fn publishers(&self) -> Vec<PublisherState> {
        let publishers = self.publishers.read();
        let publishers = publishers.by_id.values();
        let mut states: Vec<PublisherState> =
            publishers.map(|publisher| publisher.describe()).collect();
        states.sort_unstable_by_key(|state| state.id.0);
        states
    }

    /// Whether any publisher is subscribed to.
    pub fn has_publishers(&self) -> bool {
        self.view.load().publishers > 0
    }

    /// Whether an endpoint's cache is known: one of its publishers is connected and has sent a message or answered a replay.
    pub fn knows(&self, slot: u32) -> bool {
        self.view.load().known.contains(slot)
    }

    /// The endpoints whose caches are known now, for many questions in a row.
    pub fn known(&self) -> KnownEndpoints {
        KnownEndpoints(self.view.load_full())
    }

    /// Names of the media that were announced, in lower case, by the number of their tier. `gpu` is the first.
    pub fn tiers(&self) -> Vec<Arc<str>> {
        Vec::clone(&self.tiers.all())
    }

    /// What a block counts in each tier. `weight`: by the medium's name; speculative entries count like those on the GPU.
    pub fn weights(&self, weight: impl Fn(&str) -> f32) -> [f32; MAX_TIERS] {
        let mut weights = [0.0; MAX_TIERS];
        for (slot, name) in weights.iter_mut().zip(self.tiers.all().iter()) {
            *slot = weight(name);
        }
        weights[usize::from(Tier::SPECULATIVE.0)] = weights[usize::from(Tier::GPU.0)];
        weights
    }

    /// The connection was lost and is tried again.
    pub fn reconnected(&self, publisher: PublisherId) {
        if let Some(publisher) = self.find(publisher) {
            add(&publisher.stats.reconnections, 1);
        }
    }

    /// A socket failed. `operation`: `connect`, `bind`, `subscribe`, `recv`, `monitor`, `replay_connect` or `replay`; others count as `other`.
    pub fn socket_error(&self, publisher: PublisherId, operation: &str) {
        if let Some(publisher) = self.find(publisher) {
            publisher.stats.error(operation);
        }
    }

    fn find(&self, publisher: PublisherId) -> Option<Arc<Publisher>> {
        self.publishers.read().by_id.get(&publisher.0).cloned()
    }

    fn number(&self, sequence: &[u8]) -> Option<u64> {
        // All ones mark the end of a replay.
        let number = sequence.try_into().ok().map(u64::from_be_bytes);
        let number = number.filter(|number| *number < u64::MAX);
        if number.is_none() {
            add(&self.stats.bad_sequences, 1);
        }
        number
    }

    fn applier<'a>(
        &'a self,
        publisher: &Publisher,
        state: &'a mut State,
    ) -> (Applier<'a>, &'a mut Sequence) {
        let applier = Applier {
            index: &self.index,
            tiers: &self.tiers,
            stats: &self.stats,
            holder: publisher.holder,
            engine: publisher.engine,
            prompts: self.prompts.as_deref(),
            learned: &mut state.learned,
        };
        (applier, &mut state.sequence)
    }

    /// Tells readers what a message changed.
    fn settle(&self, publisher: &Publisher, state: &State, delivered: bool) {
        publisher
            .stats
            .held
            .store(state.sequence.held() as u64, Relaxed);
        let known = publisher.facts.load();
        let learned = &state.learned;
        if known.block_tokens == learned.block_tokens
            && known.delivered >= delivered
            && Arc::ptr_eq(&known.adapters, &learned.adapters)
        {
            return;
        }
        self.update(publisher, |facts| {
            facts.block_tokens = learned.block_tokens;
            facts.delivered |= delivered;
            facts.adapters = Arc::clone(&learned.adapters);
        });
    }

    /// Changes what readers know of a publisher; its state is locked.
    fn update(&self, publisher: &Publisher, change: impl FnOnce(&mut Facts)) {
        let mut facts = (**publisher.facts.load()).clone();
        change(&mut facts);
        let facts = Arc::new(facts);
        publisher.facts.store(Arc::clone(&facts));
        self.show(|roster| roster.set(publisher.id, &facts));
    }

    fn show(&self, change: impl FnOnce(&mut Roster)) {
        let mut roster = self.roster.lock();
        change(&mut roster);
        self.view.store(Arc::new(roster.view()));
    }

    fn count(&self, received: Received) -> Received {
        if let Received::Replay { .. } = received {
            add(&self.stats.replays_asked, 1);
        }
        received
    }
}

impl FamilySource for KvEvents {
    fn families(&self, _snapshot: &Snapshot) -> Vec<Family> {
        let publishers: Vec<Arc<Publisher>> =
            self.publishers.read().by_id.values().cloned().collect();
        let publishers: Vec<_> = publishers
            .iter()
            .map(|publisher| (Arc::clone(&publisher.pod), &publisher.stats))
            .collect();
        self.stats.families(&publishers)
    }
}
