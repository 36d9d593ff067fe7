//! Where blocks live: slots in chunks of 1,024, content hashes beside words.
//!
//! Blocks of one announcement go to neighbouring slots, so a query reads memory in order, and a store writes it in order. Which slots are free only the writer knows.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::atomics::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use super::cell::{self, LINK};

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

/// Free slots in a row that are worth to begin a run in, as each costs an entry of the table.
const SHORTEST: u32 = 8;

/// What readers see of 1,024 slots.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Raised before slots are filled again, see `cell`.
    version: AtomicU32,
    /// A query has found a block here since eviction last passed by.
    touched: AtomicBool,
    contents: [AtomicU64; CHUNK as usize],
    words: [AtomicU32; CHUNK as usize],
}

impl Chunk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU32::new(0),
            touched: AtomicBool::new(false),
            contents: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicU32::new(0)),
        })
    }

    #[inline]
    pub(super) fn enter(&self) -> u32 {
        cell::enter(&self.version)
    }

    #[inline]
    pub(super) fn unchanged(&self, entered: u32) -> bool {
        cell::unchanged(&self.version, entered)
    }

    /// The word of the slot at `place` if it has that content.
    #[inline]
    pub(super) fn read(&self, place: u32, wanted: u64) -> Option<u32> {
        let place = (place % CHUNK) as usize;
        cell::read(&self.contents[place], &self.words[place], wanted)
    }

    /// As [`read`](Self::read), only the word.
    #[inline]
    pub(super) fn word(&self, place: u32) -> u32 {
        self.words[(place % CHUNK) as usize].load(Ordering::Acquire)
    }

    /// Contents and words of the slots from `place` on, to be given to [`cell::read`].
    #[inline]
    pub(super) fn from(&self, place: u32) -> impl Iterator<Item = (&AtomicU64, &AtomicU32)> {
        let place = (place as usize).min(CHUNK as usize);
        self.contents[place..].iter().zip(&self.words[place..])
    }

    /// Loads what the slots `places` take, so that a query waits once for many lines; the result only keeps the loads from being left out.
    #[inline]
    pub(super) fn warm(&self, places: std::ops::Range<u32>) -> u64 {
        let places = places.start as usize..places.end.min(CHUNK) as usize;
        let contents = self.contents.get(places.clone()).unwrap_or_default();
        let words = self.words.get(places).unwrap_or_default();
        // A line has 8 contents or 16 words.
        let contents = contents
            .iter()
            .step_by(8)
            .map(|content| content.load(Ordering::Relaxed));
        let words = words
            .iter()
            .step_by(16)
            .map(|word| u64::from(word.load(Ordering::Relaxed)));
        contents.chain(words).fold(0, |all, one| all ^ one)
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
    /// Slots from this place on were never filled.
    fresh: u32,
    /// Waits in the queue of chunks to fill.
    queued: bool,
}

impl Held {
    /// The next free slots in a row: first place, and how many of them up to `most`.
    fn free_range(&self, from: u32, most: u32) -> Option<(u32, u32)> {
        let mut place = from;
        while place < CHUNK {
            let free = self.free[place as usize / 64] >> (place % 64);
            if free == 0 {
                place = (place / 64 + 1) * 64;
                continue;
            }
            place += free.trailing_zeros();
            return Some((place, self.free_from(place, most)));
        }
        None
    }

    /// Free slots in a row at a place, up to `most`.
    fn free_from(&self, place: u32, most: u32) -> u32 {
        let mut end = place;
        while end < CHUNK && end - place < most {
            let used = !(self.free[end as usize / 64] >> (end % 64));
            let free = used.trailing_zeros().min(64 - end % 64);
            end += free;
            if !end.is_multiple_of(64) || free == 0 {
                break;
            }
        }
        (end - place).min(most)
    }

    fn take(&mut self, place: u32, slots: u32) {
        for place in place..place + slots {
            self.free[place as usize / 64] &= !(1 << (place % 64));
        }
        self.free_count -= slots;
    }
}

/// Where the next runs go.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    number: u32,
    place: u32,
    /// Free slots in a row that are enough.
    least: u32,
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
    current: Option<Cursor>,
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

    #[inline]
    pub(super) fn content(&self, slot: u32) -> u64 {
        self.chunk(slot).contents[(slot % CHUNK) as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn word(&self, slot: u32) -> u32 {
        self.chunk(slot).words[(slot % CHUNK) as usize].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_word(&self, slot: u32, word: u32) {
        self.chunk(slot).words[(slot % CHUNK) as usize].store(word, Ordering::Release);
    }

    /// The slot behind, if there is one in the same chunk.
    #[inline]
    pub(super) fn behind(slot: u32) -> Option<u32> {
        Some(slot + 1).filter(|next| !next.is_multiple_of(CHUNK))
    }

    /// The block that follows in the slot behind, if there is one of that content.
    #[inline]
    pub(super) fn follower(&self, slot: u32, content: u64) -> Option<u32> {
        let next = Self::behind(slot)?;
        (self.word(next) & LINK != 0 && self.content(next) == content).then_some(next)
    }

    /// Whether a block follows in the slot behind.
    #[inline]
    pub(super) fn has_follower(&self, slot: u32) -> bool {
        Self::behind(slot).is_some_and(|next| self.word(next) & LINK != 0)
    }

    /// Whether there is a block in the slot, held or not.
    pub(super) fn is_used(&self, slot: u32) -> bool {
        let held = &self.chunks[(slot / CHUNK) as usize];
        held.chunk.is_some() && held.free[(slot % CHUNK) as usize / 64] >> (slot % 64) & 1 == 0
    }

    /// Takes up to `most` free slots in a row, if it can be those behind `after`; the caller fills them at once. None: no more than 2^32 slots.
    pub(super) fn take(&mut self, after: Option<u32>, most: u32) -> Option<(u32, u32)> {
        if let Some(next) = after.and_then(Self::behind) {
            let held = &mut self.chunks[(next / CHUNK) as usize];
            let slots = held.free_from(next % CHUNK, most);
            if slots > 0 {
                held.take(next % CHUNK, slots);
                self.free_total -= slots as usize;
                return Some((next, slots));
            }
        }
        loop {
            if let Some(cursor) = &mut self.current {
                let held = &mut self.chunks[cursor.number as usize];
                while let Some((place, slots)) = held.free_range(cursor.place, most) {
                    cursor.place = place + slots;
                    if slots >= cursor.least.min(most) {
                        held.take(place, slots);
                        self.free_total -= slots as usize;
                        return Some((cursor.number * CHUNK + place, slots));
                    }
                }
            }
            self.current = Some(self.next_chunk()?);
        }
    }

    fn next_chunk(&mut self) -> Option<Cursor> {
        let cursor = |number, least| Cursor {
            number,
            place: 0,
            least,
        };
        while let Some(number) = self.fill.pop_front() {
            let held = &mut self.chunks[number as usize];
            held.queued = false;
            if held.chunk.is_some() && held.free_count >= WORTH {
                return Some(cursor(number, SHORTEST));
            }
        }
        // Crumbs: only when they have come to a sixteenth of everything are they worth the jumps.
        if self.free_total * 16 > self.live_chunks * CHUNK as usize
            && let Some(number) = (0..self.chunks.len())
                .filter(|number| self.chunks[*number].chunk.is_some())
                .max_by_key(|number| self.chunks[*number].free_count)
        {
            return Some(cursor(number as u32, 1));
        }
        self.add_chunk().map(|number| cursor(number, SHORTEST))
    }

    fn add_chunk(&mut self) -> Option<u32> {
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if self.chunks.len() >= (u32::MAX / CHUNK) as usize - 1 => return None,
            None => {
                self.chunks.push(Held {
                    chunk: None,
                    free: [0; WORDS],
                    free_count: 0,
                    fresh: 0,
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
        held.fresh = 0;
        self.free_total += CHUNK as usize;
        self.live_chunks += 1;
        Some(number)
    }

    /// Fills slots from [`take`](Self::take): each block follows the one before, and the first one the slot before where `word` is to say so.
    #[inline]
    pub(super) fn fill(&mut self, slot: u32, contents: impl Iterator<Item = u64>, word: u32) {
        let held = &mut self.chunks[(slot / CHUNK) as usize];
        let chunk = held
            .chunk
            .as_ref()
            .expect("a slot in use is in a chunk that exists");
        let first = slot % CHUNK;
        if first < held.fresh {
            cell::reuse(&chunk.version);
        }
        let mut word = word;
        let mut place = first as usize;
        for content in contents {
            cell::fill(&chunk.contents[place], &chunk.words[place], content, word);
            word |= LINK;
            place += 1;
        }
        held.fresh = held.fresh.max(place as u32);
    }

    /// Frees a slot: nobody holds its block, and nothing follows it.
    pub(super) fn free(&mut self, slot: u32) {
        let number = slot / CHUNK;
        self.set_word(slot, 0);
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
        if let Some(chunk) = held.chunk.take() {
            // Its slots' numbers may be given to other blocks, which readers of the old directory must not take for followers of what was here.
            cell::reuse(&chunk.version);
        }
        self.free_total -= CHUNK as usize;
        self.live_chunks -= 1;
        self.vacant.push(number);
        if self.current.is_some_and(|at| at.number == number) {
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

    /// Slots in use, by blocks that somebody holds or that others follow.
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
