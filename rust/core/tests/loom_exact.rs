//! All interleavings of one writer and one reader of a slot of the exact index. Run with `RUSTFLAGS="--cfg loom" cargo test -p warmroute-core --test loom_exact --release`.
#![cfg(loom)]

mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/prefix/exact/cell.rs"]
mod cell;

use loom::sync::Arc;
use loom::thread;

use atomics::{AtomicU32, AtomicU64, Ordering};

struct Slot {
    renamed: AtomicU32,
    key: AtomicU64,
    word: AtomicU32,
}

impl Slot {
    fn read(&self, wanted: u64) -> u32 {
        cell::read(&self.renamed, &self.key, &self.word, wanted)
    }

    fn rename(&self, key: u64, word: u32) {
        self.word.store(cell::EMPTY, Ordering::Release);
        cell::rename(&self.renamed, &self.key, &self.word, key, word, true);
    }
}

const A: u64 = 10;
const B: u64 = 20;

/// Words of A are below 100, words of B above.
fn slot_of_a() -> Arc<Slot> {
    Arc::new(Slot {
        renamed: AtomicU32::new(0),
        key: AtomicU64::new(A),
        word: AtomicU32::new(1),
    })
}

#[test]
fn a_slot_given_away_never_answers_for_its_former_key() {
    loom::model(|| {
        let slot = slot_of_a();
        let writer = thread::spawn({
            let slot = slot.clone();
            move || slot.rename(B, 101)
        });
        assert!([cell::EMPTY, 1].contains(&slot.read(A)));
        assert!([cell::EMPTY, 101].contains(&slot.read(B)));
        writer.join().expect("the writer does not panic");
        assert_eq!((slot.read(A), slot.read(B)), (cell::EMPTY, 101));
    });
}

#[test]
fn a_slot_given_away_and_back_never_answers_with_what_was_between() {
    loom::model(|| {
        let slot = slot_of_a();
        let writer = thread::spawn({
            let slot = slot.clone();
            move || {
                slot.rename(B, 101);
                slot.rename(A, 2);
            }
        });
        let word = slot.read(A);
        assert!([cell::EMPTY, 1, 2].contains(&word), "{word}");
        writer.join().expect("the writer does not panic");
        assert_eq!(slot.read(A), 2);
    });
}
