//! All interleavings of one writer and one reader of slots of the exact index.

mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/prefix/exact/cell.rs"]
mod cell;

use loom::sync::Arc;
use loom::thread;

use atomics::{AtomicU32, AtomicU64, Ordering};
use cell::{LINK, holders};

/// Two neighbouring slots, and the one entry of a table that leads to the first.
struct Run {
    version: AtomicU32,
    contents: [AtomicU64; 2],
    words: [AtomicU32; 2],
    /// The first block's parent; 0: there is no entry.
    head: AtomicU64,
}

/// Parents.
const P: u64 = 1;
const Q: u64 = 2;
/// Contents of first and second blocks.
const FIRST: u64 = 10;
const SECOND: u64 = 20;

impl Run {
    /// The path P, FIRST, SECOND, held by 1 and 2.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU32::new(0),
            contents: [AtomicU64::new(FIRST), AtomicU64::new(SECOND)],
            words: [AtomicU32::new(1), AtomicU32::new(2 | LINK)],
            head: AtomicU64::new(P),
        })
    }

    /// Takes the path out: what comes last goes first, and the entry before its slot.
    fn free(&self) {
        self.words[1].store(0, Ordering::Release);
        self.head.store(0, Ordering::Release);
        self.words[0].store(0, Ordering::Release);
    }

    fn fill(&self, parent: u64, contents: [u64; 2], lanes: [u32; 2]) {
        cell::reuse(&self.version);
        cell::fill(&self.contents[0], &self.words[0], contents[0], lanes[0]);
        let second = lanes[1] | LINK;
        cell::fill(&self.contents[1], &self.words[1], contents[1], second);
        self.head.store(parent, Ordering::Release);
    }

    /// Holders along the path behind a parent, as a query finds them. None: it has to begin anew.
    fn walk(&self, parent: u64) -> Option<Vec<u32>> {
        let mut found = Vec::new();
        if self.head.load(Ordering::Acquire) != parent {
            return Some(found);
        }
        let entered = cell::enter(&self.version);
        if self.head.load(Ordering::Acquire) != parent {
            return None;
        }
        for (at, content) in [FIRST, SECOND].into_iter().enumerate() {
            let Some(word) = cell::read(&self.contents[at], &self.words[at], content) else {
                break;
            };
            if holders(word) == cell::EMPTY || (at > 0 && word & LINK == 0) {
                break;
            }
            found.push(holders(word));
        }
        cell::unchanged(&self.version, entered).then_some(found)
    }
}

/// Whether the answer is that of a path, up to some block.
fn is_of(answer: Option<&Vec<u32>>, paths: &[&[u32]]) -> bool {
    answer.is_none_or(|found| paths.iter().any(|path| path.starts_with(found)))
}

#[test]
fn slots_given_to_another_path_never_answer_for_the_former_one() {
    loom::model(|| {
        let run = Run::new();
        let writer = thread::spawn({
            let run = run.clone();
            move || {
                run.free();
                // The same contents behind another parent: only the entry tells them apart.
                run.fill(Q, [FIRST, SECOND], [3, 4]);
            }
        });
        let (of_p, of_q) = (run.walk(P), run.walk(Q));
        assert!(is_of(of_p.as_ref(), &[&[1, 2]]), "{of_p:?}");
        assert!(is_of(of_q.as_ref(), &[&[3, 4]]), "{of_q:?}");
        writer.join().expect("the writer does not panic");
        assert_eq!((run.walk(P), run.walk(Q)), (Some(vec![]), Some(vec![3, 4])));
    });
}

#[test]
fn slots_given_away_and_back_never_answer_with_what_was_between() {
    let mut bounded = loom::model::Builder::new();
    // All interleavings of two renamings were not through after minutes.
    bounded.preemption_bound = Some(4);
    bounded.check(|| {
        let run = Run::new();
        let writer = thread::spawn({
            let run = run.clone();
            move || {
                run.free();
                run.fill(Q, [FIRST, SECOND], [3, 4]);
                run.free();
                run.fill(P, [FIRST, SECOND], [5, 6]);
            }
        });
        let of_p = run.walk(P);
        // Before, after, or nothing; not the second of one and the first of another.
        assert!(is_of(of_p.as_ref(), &[&[1, 2], &[5, 6]]), "{of_p:?}");
        writer.join().expect("the writer does not panic");
        assert_eq!(run.walk(P), Some(vec![5, 6]));
    });
}

#[test]
fn a_block_that_follows_a_former_one_is_not_taken_for_a_follower_of_what_is_there_now() {
    loom::model(|| {
        let run = Run::new();
        let writer = thread::spawn({
            let run = run.clone();
            move || {
                // Only the second goes, and another block comes in its place.
                run.words[1].store(0, Ordering::Release);
                cell::reuse(&run.version);
                cell::fill(&run.contents[1], &run.words[1], SECOND + 1, 4 | LINK);
            }
        });
        let of_p = run.walk(P);
        assert!(is_of(of_p.as_ref(), &[&[1, 2]]), "{of_p:?}");
        writer.join().expect("the writer does not panic");
        assert_eq!(run.walk(P), Some(vec![1]));
    });
}
