//! Sets of lanes, each kept once: what most blocks need to say of their holders is four bytes.
//!
//! A holder word is [`EMPTY`], one lane (high bit set), or the number of an interned set. A number is used again for another set when no slot has it any more, so each number
//! counts its fillings; the count is raised after the set is in place and before a slot gets the number. Who finds the number in a slot and the same count before loading the
//! set and after looking at the slot has the set that the slot meant.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::atomics::{AtomicU32, Ordering};
use super::cell::EMPTY;

const SINGLE: u32 = 1 << 31;

/// Numbers in a page of sets.
const PAGE: usize = 256;

/// The word of a block that one lane holds.
#[inline]
pub(super) const fn single(lane: u16) -> u32 {
    SINGLE | lane as u32
}

/// The lane of a word that means one lane.
#[inline]
pub(super) const fn as_single(word: u32) -> Option<u16> {
    if word & SINGLE == 0 {
        None
    } else {
        Some(word as u16)
    }
}

/// Two lanes or more.
#[derive(Debug, PartialEq)]
pub(super) enum Set {
    /// In ascending order.
    List(SmallVec<[u16; 16]>),
    /// Bit `lane % 64` of word `lane / 64`; the last word is not 0.
    Bits(SmallVec<[u64; 4]>),
}

impl Set {
    fn from_sorted(lanes: SmallVec<[u16; 16]>) -> Self {
        let words = usize::from(*lanes.last().expect("a set has two lanes or more")) / 64 + 1;
        if lanes.len() * size_of::<u16>() < words * size_of::<u64>() {
            return Self::List(lanes);
        }
        let mut bits: SmallVec<[u64; 4]> = smallvec::smallvec![0; words];
        for lane in lanes {
            bits[usize::from(lane) / 64] |= 1 << (lane % 64);
        }
        Self::Bits(bits)
    }

    pub(super) fn contains(&self, lane: u16) -> bool {
        match self {
            Self::List(lanes) => lanes.binary_search(&lane).is_ok(),
            Self::Bits(bits) => bits
                .get(usize::from(lane) / 64)
                .is_some_and(|word| word >> (lane % 64) & 1 != 0),
        }
    }

    /// Calls `each` with every lane.
    #[inline]
    pub(super) fn for_each(&self, mut each: impl FnMut(u16)) {
        match self {
            Self::List(lanes) => lanes.iter().copied().for_each(each),
            Self::Bits(bits) => {
                for (at, word) in bits.iter().enumerate() {
                    let mut word = *word;
                    while word != 0 {
                        each((at * 64) as u16 + word.trailing_zeros() as u16);
                        word &= word - 1;
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        let spilled = match self {
            Self::List(lanes) if lanes.spilled() => lanes.capacity() * size_of::<u16>(),
            Self::Bits(bits) if bits.spilled() => bits.capacity() * size_of::<u64>(),
            _ => 0,
        };
        size_of::<Self>() + 2 * size_of::<usize>() + spilled
    }
}

/// Where readers find the set of a number.
#[derive(Debug, Default)]
pub(super) struct Number {
    filled: AtomicU32,
    set: ArcSwapOption<Set>,
}

impl Number {
    /// How often the number got a set. Read before [`load`](Self::load) and after looking at the slot.
    #[inline]
    pub(super) fn filled(&self) -> u32 {
        self.filled.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn load(&self) -> Guard<Option<Arc<Set>>> {
        self.set.load()
    }
}

/// The directory of sets as readers hold it.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Arc<[Arc<[Number; PAGE]>]>);

impl Numbers {
    #[inline]
    pub(super) fn get(&self, word: u32) -> Option<&Number> {
        let number = word as usize;
        self.0.get(number / PAGE).map(|page| &page[number % PAGE])
    }
}

#[derive(Debug, Default)]
struct Interned {
    set: Option<Arc<Set>>,
    hash: u64,
    /// Slots that have the number.
    slots: u32,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Sets {
    secret: u64,
    interned: Vec<Interned>,
    index: HashTable<u32>,
    vacant: Vec<u32>,
    /// Numbers that lost their last slot in this call, and may have won one since.
    left: Vec<u32>,
    numbers: Numbers,
    changed: bool,
    set_bytes: usize,
}

impl Sets {
    pub(super) fn new(secret: u64) -> Self {
        Self {
            secret,
            // Number 0 is the word of no set.
            interned: vec![Interned::default()],
            index: HashTable::new(),
            vacant: Vec::new(),
            left: Vec::new(),
            numbers: Numbers::default(),
            changed: false,
            set_bytes: 0,
        }
    }

    /// Makes room for one more number. True: the directory changed and must be published before the next change, as that may give a number that old ones lack
    /// to a block that has holders already.
    #[must_use]
    pub(super) fn make_room(&mut self) -> bool {
        if !self.vacant.is_empty() || self.interned.len() < self.numbers.0.len() * PAGE {
            return false;
        }
        let page: Arc<[Number; PAGE]> = Arc::new(std::array::from_fn(|_| Number::default()));
        let pages = self.numbers.0.iter().cloned();
        self.numbers = Numbers(pages.chain(std::iter::once(page)).collect());
        self.changed = true;
        true
    }

    /// The word of what `word` means and `lane`; the same word if it is in already.
    pub(super) fn with(&mut self, word: u32, lane: u16) -> u32 {
        if word == EMPTY {
            return single(lane);
        }
        if let Some(other) = as_single(word) {
            if other == lane {
                return word;
            }
            let lanes = SmallVec::from_slice(&[other.min(lane), other.max(lane)]);
            return self.intern(self.hash_of(other) ^ self.hash_of(lane), lanes);
        }
        let held = &self.interned[word as usize];
        let set = held.set.as_ref().expect("a number in use has its set");
        if set.contains(lane) {
            return word;
        }
        let hash = held.hash ^ self.hash_of(lane);
        let mut lanes: SmallVec<[u16; 16]> = SmallVec::new();
        set.for_each(|other| lanes.push(other));
        lanes.insert(lanes.partition_point(|other| *other < lane), lane);
        self.intern(hash, lanes)
    }

    /// The word of what `word` means without `lane`; the same word if it is not in.
    pub(super) fn without(&mut self, word: u32, lane: u16) -> u32 {
        if word == EMPTY || as_single(word).is_some() {
            return if word == single(lane) { EMPTY } else { word };
        }
        let held = &self.interned[word as usize];
        let set = held.set.as_ref().expect("a number in use has its set");
        if !set.contains(lane) {
            return word;
        }
        let hash = held.hash ^ self.hash_of(lane);
        let mut lanes: SmallVec<[u16; 16]> = SmallVec::new();
        set.for_each(|other| {
            if other != lane {
                lanes.push(other);
            }
        });
        if let [last] = lanes[..] {
            return single(last);
        }
        self.intern(hash, lanes)
    }

    /// Lanes in what `word` means.
    pub(super) fn for_each(&self, word: u32, mut each: impl FnMut(u16)) {
        if let Some(lane) = as_single(word) {
            each(lane);
        } else if let Some(set) = &self.interned[word as usize].set {
            set.for_each(each);
        }
    }

    /// A slot goes from one word to another.
    #[inline]
    pub(super) fn moved(&mut self, from: u32, to: u32) {
        if to != EMPTY && to & SINGLE == 0 {
            self.interned[to as usize].slots += 1;
        }
        if from != EMPTY && from & SINGLE == 0 {
            let held = &mut self.interned[from as usize];
            held.slots -= 1;
            if held.slots == 0 {
                self.left.push(from);
            }
        }
    }

    /// Forgets the sets that no slot has. Words made in this call and not used are invalid from here on.
    pub(super) fn tidy(&mut self) {
        while let Some(number) = self.left.pop() {
            let held = &mut self.interned[number as usize];
            if held.slots > 0 {
                continue;
            }
            // Listed twice if it was emptied twice.
            let Some(set) = held.set.take() else { continue };
            self.set_bytes -= set.bytes();
            if let Ok(entry) = self.index.find_entry(held.hash, |other| *other == number) {
                entry.remove();
            }
            if let Some(cell) = self.numbers.get(number) {
                cell.set.store(None);
            }
            self.vacant.push(number);
        }
        if self.index.is_empty() && self.interned.len() > PAGE {
            // Readers that still have the old directory find no set in it, so a number that means something new does not mislead them.
            let secret = self.secret;
            *self = Self::new(secret);
            self.changed = true;
        } else if self.index.capacity() > 64 && self.index.len() * 4 < self.index.capacity() {
            let interned = &self.interned;
            self.index.shrink_to(self.index.len() * 2, |number| {
                interned[*number as usize].hash
            });
        }
    }

    /// The directory, if it is another than the one last asked for.
    pub(super) fn changed(&mut self) -> Option<Numbers> {
        std::mem::take(&mut self.changed).then(|| self.numbers.clone())
    }

    /// Sets of two lanes or more.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.set_bytes
            + self.interned.capacity() * size_of::<Interned>()
            + self.index.allocation_size()
            + self.numbers.0.len() * size_of::<[Number; PAGE]>()
            + (self.vacant.capacity() + self.left.capacity()) * size_of::<u32>()
    }

    fn hash_of(&self, lane: u16) -> u64 {
        super::mix(self.secret, u64::from(lane))
    }

    fn intern(&mut self, hash: u64, lanes: SmallVec<[u16; 16]>) -> u32 {
        let set = Set::from_sorted(lanes);
        let interned = &self.interned;
        if let Some(number) = self.index.find(hash, |number| {
            interned[*number as usize].set.as_deref() == Some(&set)
        }) {
            return *number;
        }
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.interned.push(Interned::default());
            self.interned.len() as u32 - 1
        });
        let set = Arc::new(set);
        self.set_bytes += set.bytes();
        let cell = self
            .numbers
            .get(number)
            .expect("room was made before the change");
        cell.set.store(Some(set.clone()));
        cell.filled.store(
            cell.filled.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
        self.interned[number as usize] = Interned {
            set: Some(set),
            hash,
            slots: 0,
        };
        // Until a slot has it, it is one of those that `tidy` looks at.
        self.left.push(number);
        let interned = &self.interned;
        self.index
            .insert_unique(hash, number, |number| interned[*number as usize].hash);
        number
    }
}
