//! Where blocks live: slots in chunks of 1,024, keys beside holder words.
//!
//! Blocks of one announcement go to neighbouring slots, so a query reads memory in order. Which slots are free only the writer knows.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::atomics::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use super::cell::{self, EMPTY};

/// Slots in a chunk.
#[cfg(not(test))]
pub(super) const CHUNK: u32 = 1024;
/// Small, so that tests with few blocks fill, empty and reuse chunks.
#[cfg(test)]
pub(super) const CHUNK: u32 = 64;

const WORDS: usize = CHUNK as usize / 64;

/// Chunks in a page of the directory.
const PAGE: usize = 256;

/// Free slots that make a chunk worth going to before a new one is made: as long as the runs that engines announce.
const WORTH: u32 = 16;

/// What readers see of 1,024 slots.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Slots of this chunk that were given from one key to another.
    renamed: AtomicU32,
    /// A query has found a block here since eviction last passed by.
    touched: AtomicBool,
    keys: [AtomicU64; CHUNK as usize],
    words: [AtomicU32; CHUNK as usize],
}

impl Chunk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            renamed: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicU32::new(EMPTY)),
        })
    }

    /// The holder word of the slot at `place` (below [`CHUNK`]) if it belongs to `wanted`, else [`EMPTY`].
    #[inline]
    pub(super) fn read(&self, place: u32, wanted: u64) -> u32 {
        let place = (place % CHUNK) as usize;
        cell::read(&self.renamed, &self.keys[place], &self.words[place], wanted)
    }

    /// Loads what the slots `places` take, so that a query waits once for many lines; the result only keeps the loads from being left out.
    #[inline]
    pub(super) fn warm(&self, places: std::ops::Range<u32>) -> u64 {
        let places = places.start as usize..places.end.min(CHUNK) as usize;
        let keys = self.keys.get(places.clone()).unwrap_or_default();
        let words = self.words.get(places).unwrap_or_default();
        // A line has 8 keys or 16 words.
        let keys = keys
            .iter()
            .step_by(8)
            .map(|key| key.load(Ordering::Relaxed));
        let words = words
            .iter()
            .step_by(16)
            .map(|word| u64::from(word.load(Ordering::Relaxed)));
        keys.chain(words).fold(0, |all, one| all ^ one)
    }

    /// Notes for eviction that a query was here.
    #[inline]
    pub(super) fn touch(&self) {
        // Looked at first: a line that is only read stays in the caches of all readers.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }
}

/// A part of the directory of chunks. Chunks are added in place; to take one out a page is copied.
#[derive(Clone, Debug)]
pub(super) struct Page([OnceLock<Arc<Chunk>>; PAGE]);

impl Page {
    fn new() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

/// The directory of chunks as readers hold it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages(Arc<[Arc<Page>]>);

impl Pages {
    /// The chunk of a slot; none if it came after this directory was taken.
    #[inline]
    pub(super) fn chunk(&self, slot: u32) -> Option<&Chunk> {
        let number = (slot / CHUNK) as usize;
        self.0.get(number / PAGE)?.0[number % PAGE]
            .get()
            .map(AsRef::as_ref)
    }
}

/// What the writer knows of a chunk.
#[derive(Debug)]
struct Held {
    chunk: Option<Arc<Chunk>>,
    free: [u64; WORDS],
    free_count: u32,
    /// Slots whose block's parent is the block in the slot before (or was, if that is free now).
    follows: [u64; WORDS],
    /// Waits in the queue of chunks to fill.
    queued: bool,
}

/// The writer's side: all chunks, and which of their slots are free.
#[derive(Debug, Default)]
pub(super) struct Slots {
    chunks: Vec<Held>,
    pages: Pages,
    /// `pages` is not what was last published.
    changed: bool,
    vacant: Vec<u32>,
    fill: VecDeque<u32>,
    /// Chunk that is being filled, and where in it to look next.
    current: Option<(u32, u32)>,
    free_total: usize,
    live_chunks: usize,
}

impl Slots {
    #[inline]
    fn chunk(&self, slot: u32) -> &Chunk {
        self.chunks[(slot / CHUNK) as usize]
            .chunk
            .as_ref()
            .expect("a slot in use is in a chunk that exists")
    }

    /// Key of a slot; of one that is free the key it had, 0 if none.
    #[inline]
    pub(super) fn key(&self, slot: u32) -> u64 {
        self.chunk(slot).keys[(slot % CHUNK) as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn word(&self, slot: u32) -> u32 {
        self.chunk(slot).words[(slot % CHUNK) as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_word(&self, slot: u32, word: u32) {
        self.chunk(slot).words[(slot % CHUNK) as usize].store(word, Ordering::Release);
    }

    /// The slot behind `slot`, if it belongs to `key`.
    #[inline]
    pub(super) fn follower(&self, slot: u32, key: u64) -> Option<u32> {
        let next = slot.checked_add(1).filter(|next| next % CHUNK != 0)?;
        (self.key(next) == key && self.word(next) != EMPTY).then_some(next)
    }

    /// Takes a free slot, behind the last one if that is free; the caller fills it at once. None: no more than 2^32 slots.
    pub(super) fn take(&mut self) -> Option<u32> {
        loop {
            if let Some((number, from)) = self.current {
                let held = &mut self.chunks[number as usize];
                let mut word = (from / 64) as usize;
                let mut mask = u64::MAX << (from % 64);
                while word < WORDS {
                    let free = held.free[word] & mask;
                    if free != 0 {
                        let place = word as u32 * 64 + free.trailing_zeros();
                        held.free[word] &= !(1 << (place % 64));
                        held.free_count -= 1;
                        self.free_total -= 1;
                        self.current = Some((number, place + 1)).filter(|at| at.1 < CHUNK);
                        return Some(number * CHUNK + place);
                    }
                    word += 1;
                    mask = u64::MAX;
                }
            }
            self.current = Some((self.next_chunk()?, 0));
        }
    }

    fn next_chunk(&mut self) -> Option<u32> {
        while let Some(number) = self.fill.pop_front() {
            let held = &mut self.chunks[number as usize];
            held.queued = false;
            if held.chunk.is_some() && held.free_count >= WORTH {
                return Some(number);
            }
        }
        // Crumbs: only when they have come to a sixteenth of everything are they worth the jumps.
        if self.free_total * 16 > self.live_chunks * CHUNK as usize
            && let Some(number) = (0..self.chunks.len())
                .filter(|number| self.chunks[*number].chunk.is_some())
                .max_by_key(|number| self.chunks[*number].free_count)
        {
            return Some(number as u32);
        }
        self.add_chunk()
    }

    fn add_chunk(&mut self) -> Option<u32> {
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if self.chunks.len() >= (u32::MAX / CHUNK) as usize => return None,
            None => {
                self.chunks.push(Held {
                    chunk: None,
                    free: [0; WORDS],
                    free_count: 0,
                    follows: [0; WORDS],
                    queued: false,
                });
                self.chunks.len() as u32 - 1
            }
        };
        let page = number as usize / PAGE;
        if page == self.pages.0.len() {
            let added = std::iter::once(Arc::new(Page::new()));
            self.pages = Pages(self.pages.0.iter().cloned().chain(added).collect());
            self.changed = true;
        }
        let chunk = Chunk::new();
        self.pages.0[page].0[number as usize % PAGE]
            .set(chunk.clone())
            .expect("a chunk's place was cleared when the chunk went");
        let held = &mut self.chunks[number as usize];
        held.chunk = Some(chunk);
        held.free = [u64::MAX; WORDS];
        held.free_count = CHUNK;
        held.follows = [0; WORDS];
        self.free_total += CHUNK as usize;
        self.live_chunks += 1;
        Some(number)
    }

    /// Gives a slot from [`take`](Self::take) to a key. `follows`: its parent is the block in the slot before.
    /// Returns the slot behind and the key that the slot had, if that slot's parent was known only by its neighbourhood.
    #[inline]
    pub(super) fn fill(
        &mut self,
        slot: u32,
        key: u64,
        word: u32,
        follows: bool,
    ) -> Option<(u32, u64)> {
        let place = (slot % CHUNK) as usize;
        let held = &mut self.chunks[(slot / CHUNK) as usize];
        let chunk = held
            .chunk
            .as_ref()
            .expect("a slot in use is in a chunk that exists");
        let before = chunk.keys[place].load(Ordering::Relaxed);
        cell::rename(
            &chunk.renamed,
            &chunk.keys[place],
            &chunk.words[place],
            key,
            word,
            before != 0,
        );
        let bit = 1 << (place % 64);
        held.follows[place / 64] = held.follows[place / 64] & !bit | if follows { bit } else { 0 };
        if before == 0 || before == key || place + 1 == CHUNK as usize {
            return None;
        }
        let next = place + 1;
        let bit = 1 << (next % 64);
        if held.follows[next / 64] & bit == 0 || held.free[next / 64] & bit != 0 {
            return None;
        }
        held.follows[next / 64] &= !bit;
        Some((slot + 1, before))
    }

    /// Whether the block's parent is the one in the slot before.
    #[inline]
    pub(super) fn follows(&self, slot: u32) -> bool {
        let place = slot % CHUNK;
        self.chunks[(slot / CHUNK) as usize].follows[place as usize / 64] >> (place % 64) & 1 != 0
    }

    /// Frees a slot: nobody holds its block any more. It keeps its key until it is filled again.
    pub(super) fn free(&mut self, slot: u32) {
        let number = slot / CHUNK;
        self.set_word(slot, EMPTY);
        let held = &mut self.chunks[number as usize];
        held.free[(slot % CHUNK) as usize / 64] |= 1 << (slot % 64);
        held.free_count += 1;
        self.free_total += 1;
        if held.free_count == CHUNK {
            self.drop_chunk(number);
        } else if held.free_count >= WORTH && !held.queued {
            held.queued = true;
            self.fill.push_back(number);
        }
    }

    fn drop_chunk(&mut self, number: u32) {
        let held = &mut self.chunks[number as usize];
        held.chunk = None;
        self.free_total -= CHUNK as usize;
        self.live_chunks -= 1;
        self.vacant.push(number);
        if self.current.is_some_and(|at| at.0 == number) {
            self.current = None;
        }
        let (page, place) = (number as usize / PAGE, number as usize % PAGE);
        let mut pages = std::mem::take(&mut self.pages).0;
        let mut copy = (*pages[page]).clone();
        copy.0[place] = OnceLock::new();
        if let Some(list) = Arc::get_mut(&mut pages) {
            list[page] = Arc::new(copy);
        } else {
            let mut list: Vec<Arc<Page>> = pages.to_vec();
            list[page] = Arc::new(copy);
            pages = list.into();
        }
        self.pages = Pages(pages);
        self.changed = true;
    }

    /// The directory, if it is another than the one last asked for.
    pub(super) fn changed(&mut self) -> Option<Pages> {
        std::mem::take(&mut self.changed).then(|| self.pages.clone())
    }

    /// Chunks there are room for, numbers below this; not all exist.
    pub(super) fn chunk_numbers(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Slots in use of a chunk.
    pub(super) fn used(&self, number: u32) -> impl Iterator<Item = u32> + '_ {
        let held = &self.chunks[number as usize];
        let exists = held.chunk.is_some();
        (0..CHUNK)
            .filter(move |place| {
                exists && held.free[(place / 64) as usize] >> (place % 64) & 1 == 0
            })
            .map(move |place| number * CHUNK + place)
    }

    /// Number of slots in use of a chunk; 0 if there is none of that number.
    pub(super) fn used_count(&self, number: u32) -> usize {
        let held = &self.chunks[number as usize];
        held.chunk
            .as_ref()
            .map_or(0, |_| (CHUNK - held.free_count) as usize)
    }

    /// Whether a query has been in the chunk since the last call.
    pub(super) fn take_touched(&self, number: u32) -> bool {
        self.chunks[number as usize]
            .chunk
            .as_ref()
            .is_some_and(|chunk| chunk.touched.swap(false, Ordering::Relaxed))
    }

    /// Blocks in slots.
    pub(super) fn len(&self) -> usize {
        self.live_chunks * CHUNK as usize - self.free_total
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.live_chunks * size_of::<Chunk>()
            + self.chunks.capacity() * size_of::<Held>()
            + self.pages.0.len() * size_of::<Page>()
            + (self.vacant.capacity() + self.fill.capacity()) * size_of::<u32>()
    }

    /// Bytes that `blocks` new ones take at most.
    pub(super) fn bytes_for(&self, blocks: usize) -> usize {
        let chunks = blocks
            .saturating_sub(self.free_total)
            .div_ceil(CHUNK as usize);
        chunks * (size_of::<Chunk>() + size_of::<Held>())
            + chunks.div_ceil(PAGE) * size_of::<Page>()
    }
}
