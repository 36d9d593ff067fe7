//! The order of one publisher's messages: what is applied now, what waits for a replay, and when everything known about it has to go.
//!
//! At any moment the index says what the publisher said in an unbroken run of messages that ends just before `next`. A message that is missing is
//! asked for; while the answer is outstanding later ones wait, up to a bound. When it does not come, the entries go and the run begins anew.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use super::Received;

/// Messages that wait for a replay, at most; vLLM's publisher keeps as many for one.
const MOST_HELD: usize = 10_000;
/// Bytes of theirs, at most.
const MOST_HELD_BYTES: usize = 64 << 20;
/// A process that took the place of another cannot have said so much before its first message came: connections are tried again within seconds.
const FAR: u64 = 1024;
/// Messages of the past that are recognised when they come again.
const RECENT: usize = 256;

/// Why a publisher's entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Messages are missing for good.
    Hole,
    /// It began to count anew: another process, with an empty cache.
    Restart,
}

/// Takes what the order of messages decides.
pub(super) trait Sink {
    /// The next message in order.
    fn apply(&mut self, payload: &[u8]);
    /// What was applied up to here is void.
    fn clear(&mut self, why: Break);
    /// A message came a second time.
    fn duplicate(&mut self);
    /// A message is missing.
    fn gap(&mut self);
    /// So many messages will never be applied although they came.
    fn dropped(&mut self, messages: usize);
}

#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Number of the message that is applied next; none before the first.
    next: Option<u64>,
    /// Messages were applied since the beginning or the last break.
    applied: bool,
    replay: Option<Replay>,
    held: BTreeMap<u64, Box<[u8]>>,
    held_bytes: usize,
    /// Number and hash of what was applied last.
    recent: VecDeque<(u64, u64)>,
    /// Highest number that came as it was published. Those above may have come by a replay before.
    live: Option<u64>,
    /// The connection was lost: the next message may be another process's although its number fits.
    doubtful: bool,
}

/// A replay that was asked for and has not ended.
#[derive(Clone, Copy, Debug, Default)]
struct Replay {
    /// The publisher is or may be another one since: the answer is to another question.
    void: bool,
    /// It was asked after a lost connection: a process that has not even what came last is another one.
    doubts: bool,
    /// A message came of it.
    answered: bool,
}

impl Sequence {
    /// Messages that wait.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The connection was lost and is there again. What waits, and the answer that is outstanding, may be another process's than what comes now.
    pub(super) fn doubt(&mut self, sink: &mut impl Sink) {
        self.doubtful = self.next.is_some();
        self.forget_held(u64::MAX, sink);
        if let Some(replay) = &mut self.replay {
            replay.void = true;
        }
    }

    /// Asks for what the publisher still has before anything of it came.
    pub(super) fn join(&mut self) -> Received {
        if self.replay.is_some() {
            return Received::Held;
        }
        self.ask(self.doubtful)
    }

    /// A message as it was published.
    pub(super) fn receive(
        &mut self,
        number: u64,
        payload: &[u8],
        sink: &mut impl Sink,
    ) -> Received {
        let next = *self.next.get_or_insert(0);
        let doubtful = std::mem::take(&mut self.doubtful);
        if number < next || self.held.contains_key(&number) {
            if self.is_known(number, payload) {
                self.live = self.live.max(Some(number));
                self.doubtful = doubtful;
                sink.duplicate();
                return Received::Ignored;
            }
            self.restart(sink);
            return self.receive(number, payload, sink);
        }
        self.live = self.live.max(Some(number));
        // With nothing applied there is nothing that another process could contradict.
        if number == next && !(doubtful && self.applied) {
            self.apply(number, payload, sink);
            self.drain(sink);
            return Received::Applied;
        }
        if self.hold(number, payload, sink) {
            return Received::Applied;
        }
        if self.replay.is_some() {
            return Received::Held;
        }
        if number > next && self.applied {
            sink.gap();
        }
        self.ask(doubtful)
    }

    /// A message of a replay. Replays come in order.
    pub(super) fn replayed(&mut self, number: u64, payload: &[u8], sink: &mut impl Sink) {
        let Some(replay) = &mut self.replay else {
            sink.duplicate();
            return;
        };
        replay.answered = true;
        let replay = *replay;
        let next = *self.next.get_or_insert(0);
        if replay.void {
            // Of the process that is gone, or of the new one from the middle: it will be asked for again from the beginning.
            return;
        }
        if number < next {
            if number + 1 == next && self.is_other(number, payload) {
                self.restart_before_held(sink);
            } else if number + 1 == next && self.recent_hash(number).is_some() {
                self.doubtful = false;
            }
            return;
        }
        if number > next {
            self.forget_held(number, sink);
            self.jump(number, sink);
        }
        if let Some(waiting) = self.held.remove(&number) {
            self.held_bytes -= waiting.len();
        }
        self.apply(number, payload, sink);
        self.drain(sink);
    }

    /// No more comes of the replay.
    pub(super) fn replay_ended(&mut self, complete: bool, sink: &mut impl Sink) -> Received {
        let Some(replay) = self.replay.take() else {
            if complete {
                self.next.get_or_insert(0);
            }
            return Received::Ignored;
        };
        if replay.void && !self.held.is_empty() {
            return self.ask(false);
        }
        if replay.doubts && !replay.answered && !replay.void && self.applied {
            if complete {
                self.restart_before_held(sink);
                return self.ask(false);
            }
            // Nothing can tell whether it is the same process. One that has said little has little to lose.
            if self.next.is_none_or(|next| next < FAR) {
                self.restart_before_held(sink);
            }
        }
        self.drain(sink);
        if self.held.is_empty() {
            return Received::Applied;
        }
        let mut newest = None;
        for number in self.held.keys().rev() {
            if newest.is_some_and(|newest| number + 1 != newest) {
                break;
            }
            newest = Some(*number);
        }
        if let Some(newest) = newest {
            self.forget_held(newest, sink);
            self.jump(newest, sink);
            self.drain(sink);
        }
        Received::Applied
    }

    /// From one message earlier than what is missing: if it is not the one that was applied, the publisher is another one.
    fn ask(&mut self, doubts: bool) -> Received {
        self.replay = Some(Replay {
            doubts,
            ..Replay::default()
        });
        let next = self.next.unwrap_or(0);
        let verifiable = self.recent.back().is_some_and(|(last, _)| last + 1 == next);
        Received::Replay {
            from: next - u64::from(verifiable),
        }
    }

    fn apply(&mut self, number: u64, payload: &[u8], sink: &mut impl Sink) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((number, xxh3_64(payload)));
        self.next = Some(number.saturating_add(1));
        self.applied = true;
        sink.apply(payload);
    }

    fn drain(&mut self, sink: &mut impl Sink) {
        while let Some(payload) = self.next.and_then(|next| self.held.remove(&next)) {
            self.held_bytes -= payload.len();
            self.apply(self.next.unwrap_or(0), &payload, sink);
        }
    }

    /// True when there was no room: everything that waited is given up, and the run begins anew with this message.
    fn hold(&mut self, number: u64, payload: &[u8], sink: &mut impl Sink) -> bool {
        if self.held.len() >= MOST_HELD || self.held_bytes + payload.len() > MOST_HELD_BYTES {
            self.forget_held(u64::MAX, sink);
            self.jump(number, sink);
            self.apply(number, payload, sink);
            return true;
        }
        self.held_bytes += payload.len();
        self.held.insert(number, payload.into());
        false
    }

    /// What waits with a lower number will not be applied.
    fn forget_held(&mut self, below: u64, sink: &mut impl Sink) {
        let kept = self.held.split_off(&below);
        let gone = std::mem::replace(&mut self.held, kept);
        self.held_bytes -= gone.values().map(|payload| payload.len()).sum::<usize>();
        if !gone.is_empty() {
            sink.dropped(gone.len());
        }
    }

    /// Over messages that are missing for good.
    fn jump(&mut self, number: u64, sink: &mut impl Sink) {
        if self.applied && self.next != Some(number) {
            sink.clear(Break::Hole);
            self.applied = false;
        }
        self.next = Some(number);
    }

    /// What waits was published after the connection came back: it is the new process's.
    fn restart_before_held(&mut self, sink: &mut impl Sink) {
        let held = std::mem::take(&mut self.held);
        let bytes = std::mem::take(&mut self.held_bytes);
        self.restart(sink);
        (self.held, self.held_bytes) = (held, bytes);
        self.doubtful = false;
    }

    fn restart(&mut self, sink: &mut impl Sink) {
        self.forget_held(u64::MAX, sink);
        self.next = Some(0);
        self.applied = false;
        self.recent.clear();
        self.live = None;
        if let Some(replay) = &mut self.replay {
            replay.void = true;
        }
        sink.clear(Break::Restart);
    }

    /// It came already.
    fn is_known(&self, number: u64, payload: &[u8]) -> bool {
        if let Some(waiting) = self.held.get(&number) {
            return **waiting == *payload;
        }
        self.recent_hash(number).map_or_else(
            || self.live.is_none_or(|live| number > live),
            |hash| hash == xxh3_64(payload),
        )
    }

    /// Another message was applied under that number.
    fn is_other(&self, number: u64, payload: &[u8]) -> bool {
        self.recent_hash(number)
            .is_some_and(|hash| hash != xxh3_64(payload))
    }

    fn recent_hash(&self, number: u64) -> Option<u64> {
        let mut recent = self.recent.iter().rev();
        recent
            .find(|(known, _)| *known == number)
            .map(|(_, hash)| *hash)
    }
}
