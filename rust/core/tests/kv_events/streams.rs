//! Random streams with gaps, duplicates, late messages, restarts and replays, against what the engines really hold.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use warmroute_core::kv_events::{Engine, PublisherId, Received};

use crate::wire::{Picker, Value, hashes, list, number, removed, stored_array, stored_map, text};

const BLOCK: u32 = 2;
const DEPTH: usize = 5;

type Path = Vec<u8>;

#[derive(Clone, Debug)]
enum Change {
    Prompt(Path),
    Evict(Path),
    Clear,
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Delivered,
    Lost,
    Twice,
    /// After the next one.
    Late,
}

/// What becomes of a replay that is asked for.
#[derive(Clone, Copy, Debug)]
enum Help {
    Now,
    /// After so many further changes.
    Later(u8),
    /// Only so many of the last messages are still there.
    Short(u8),
    Never,
}

/// One engine process after the other behind a publisher.
struct Process {
    id: PublisherId,
    slot: u32,
    held: HashMap<Path, u32>,
    log: Vec<Vec<u8>>,
    late: Option<u64>,
    asked: Option<(u64, Help, u8)>,
    /// The first message of a process that replaced another is not lost: it comes minutes after the connection.
    fresh: bool,
}

fn hash(path: &[u8]) -> u64 {
    let mixed = |hash: u64, step: &u8| {
        (hash ^ u64::from(*step + 1))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    path.iter().fold(0x1234_5678_9abc_def1, mixed)
}

fn ids(path: &[u8]) -> Vec<u32> {
    path.iter().flat_map(|step| [u32::from(*step), 7]).collect()
}

impl Process {
    /// What it announces of a change, if anything.
    fn change(&mut self, change: &Change) -> Option<Value> {
        match change {
            Change::Prompt(path) => {
                let known = (1..=path.len())
                    .take_while(|depth| self.held.contains_key(&path[..*depth]))
                    .count();
                if known == path.len() {
                    return None;
                }
                let own: Vec<u64> = (known + 1..=path.len())
                    .map(|depth| hash(&path[..depth]))
                    .collect();
                for depth in known + 1..=path.len() {
                    *self.held.entry(path[..depth].to_vec()).or_default() += 1;
                }
                let parent = (known > 0).then(|| hash(&path[..known]));
                let tokens = ids(&path[known..]);
                Some(if path.len() % 2 == 0 {
                    stored_map(&own, parent, &tokens, BLOCK, vec![("medium", text("GPU"))])
                } else {
                    stored_array(&own, parent, &tokens, BLOCK, vec![Value::Nil])
                })
            }
            Change::Evict(path) => {
                let count = self.held.get_mut(path)?;
                *count -= 1;
                if *count == 0 {
                    self.held.remove(path);
                }
                Some(if path.len() % 2 == 0 {
                    removed(&[hash(path)], vec![])
                } else {
                    list([text("BlockRemoved"), hashes(&[hash(path)])])
                })
            }
            Change::Clear => {
                self.held.clear();
                Some(list([text("AllBlocksCleared")]))
            }
            Change::Restart => {
                self.held.clear();
                self.log.clear();
                self.late = None;
                self.fresh = true;
                None
            }
        }
    }

    fn holds(&self, path: &[u8]) -> usize {
        (1..=path.len())
            .take_while(|depth| self.held.contains_key(&path[..*depth]))
            .count()
    }
}

struct Run {
    picker: Picker,
    processes: Vec<Process>,
    clock: f64,
}

impl Run {
    fn new() -> Self {
        let picker = Picker::new();
        // The first endpoint has two engines.
        let slots = [(0, 0), (0, 1), (1, 0)];
        let processes = slots.map(|(slot, rank)| Process {
            id: picker.events.open(slot, "pod", rank, Engine::Vllm),
            slot,
            held: HashMap::new(),
            log: Vec::new(),
            late: None,
            asked: None,
            fresh: false,
        });
        Self {
            picker,
            processes: processes.into(),
            clock: 0.0,
        }
    }

    fn step(&mut self, of: usize, change: &Change, fate: Fate, help: Help) {
        if matches!(change, Change::Restart) {
            for connected in [false, true] {
                self.picker
                    .events
                    .connected(self.processes[of].id, connected);
            }
        }
        let Some(event) = self.processes[of].change(change) else {
            return;
        };
        self.say(of, vec![event], fate, help);
    }

    fn say(&mut self, of: usize, events: Vec<Value>, fate: Fate, help: Help) {
        self.clock += 1.0;
        let mut payload = Vec::new();
        list([Value::Time(self.clock), Value::List(events), number(0)]).write(&mut payload);
        let process = &mut self.processes[of];
        process.log.push(payload);
        let sequence = process.log.len() as u64 - 1;
        let late = process.late.take();
        let fate = if std::mem::take(&mut process.fresh) {
            Fate::Delivered
        } else {
            fate
        };
        match fate {
            Fate::Lost => {}
            Fate::Delivered => self.deliver(of, sequence, help),
            Fate::Twice => {
                self.deliver(of, sequence, help);
                self.deliver(of, sequence, help);
            }
            Fate::Late => self.processes[of].late = Some(sequence),
        }
        if let Some(late) = late {
            self.deliver(of, late, help);
        }
        for of in 0..self.processes.len() {
            if let Some((from, help, wait)) = self.processes[of].asked {
                self.processes[of].asked = Some((from, help, wait.saturating_sub(1)));
                if wait == 0 {
                    self.answer(of);
                }
            }
        }
    }

    fn deliver(&mut self, of: usize, sequence: u64, help: Help) {
        let process = &self.processes[of];
        let payload = &process.log[sequence as usize];
        let received =
            self.picker
                .events
                .receive(process.id, b"", &sequence.to_be_bytes(), payload);
        self.asked(of, received, help);
    }

    fn asked(&mut self, of: usize, received: Received, help: Help) {
        if let Received::Replay { from } = received {
            assert!(
                self.processes[of].asked.is_none(),
                "asked while an answer is outstanding"
            );
            let wait = if let Help::Later(steps) = help {
                steps
            } else {
                0
            };
            self.processes[of].asked = Some((from, help, wait));
            if wait == 0 {
                self.answer(of);
            }
        }
    }

    fn answer(&mut self, of: usize) {
        let process = &mut self.processes[of];
        let Some((from, help, _)) = process.asked.take() else {
            return;
        };
        let first = match help {
            Help::Now | Help::Later(_) => 0,
            Help::Short(last) => process.log.len().saturating_sub(usize::from(last)),
            Help::Never => process.log.len(),
        };
        for (sequence, payload) in (0_u64..).zip(&process.log).skip(first.max(from as usize)) {
            self.picker
                .events
                .replayed(process.id, &sequence.to_be_bytes(), payload);
        }
        let complete = !matches!(help, Help::Never);
        let received = self.picker.events.replay_ended(process.id, complete);
        self.asked(of, received, help);
    }

    /// Everything that is still on its way arrives, and one more message, so that the last loss is noticed.
    fn settle(&mut self) {
        for of in 0..self.processes.len() {
            self.say(of, vec![], Fate::Delivered, Help::Now);
            while self.processes[of].asked.is_some() {
                self.answer(of);
            }
        }
    }

    /// For every path how many blocks the index says and how many are really held.
    fn compare(&self) -> Vec<(Path, u32, u32, u32)> {
        let mut paths: Vec<Path> = vec![vec![]];
        for _ in 0..DEPTH {
            paths = paths
                .iter()
                .flat_map(|path| [0, 1].map(|step| [&path[..], &[step]].concat()))
                .collect();
        }
        let slots: HashSet<u32> = self.processes.iter().map(|process| process.slot).collect();
        let mut all = Vec::new();
        for path in paths {
            for slot in &slots {
                let of_slot = self
                    .processes
                    .iter()
                    .filter(|process| process.slot == *slot);
                let truth = of_slot
                    .map(|process| process.holds(&path))
                    .max()
                    .unwrap_or(0);
                let said = self.picker.blocks(*slot, &ids(&path));
                all.push((path.clone(), *slot, said, truth as u32));
            }
        }
        all
    }

    fn holes(&self) -> u64 {
        self.picker.counted("kv_events_dropped_total", &["hole"])
    }
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(0..2_u8, 1..=DEPTH)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        8 => path().prop_map(Change::Prompt),
        6 => path().prop_map(Change::Evict),
        1 => Just(Change::Clear),
        1 => Just(Change::Restart),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Delivered), 2 => Just(Fate::Lost), 1 => Just(Fate::Twice), 1 => Just(Fate::Late)]
}

fn any_help() -> impl Strategy<Value = Help> {
    prop_oneof![
        Just(Help::Now),
        (1..5_u8).prop_map(Help::Later),
        (1..4_u8).prop_map(Help::Short),
        Just(Help::Never),
    ]
}

fn full_help() -> impl Strategy<Value = Help> {
    prop_oneof![Just(Help::Now), (1..5_u8).prop_map(Help::Later)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn with_replays_the_index_is_what_the_engines_hold(
        steps in prop::collection::vec((0..3_usize, change(), fate(), full_help()), 1..60)
    ) {
        let mut run = Run::new();
        for (of, change, fate, help) in &steps {
            run.step(*of, change, *fate, *help);
        }
        run.settle();
        for (path, slot, said, truth) in run.compare() {
            prop_assert_eq!(said, truth, "path {:?} on slot {}", path, slot);
        }
        // A process that is gone can no longer tell what was missed of it.
        let restarted = steps.iter().any(|(_, change, ..)| matches!(change, Change::Restart));
        prop_assert!(restarted || run.holes() == 0);
    }

    #[test]
    fn without_them_it_never_says_more_than_is_held(
        steps in prop::collection::vec((0..3_usize, change(), fate(), any_help()), 1..60)
    ) {
        let mut run = Run::new();
        for (of, change, fate, help) in &steps {
            run.step(*of, change, *fate, *help);
        }
        run.settle();
        let complete = run.holes() == 0 && steps.iter().all(|(.., help)| !matches!(help, Help::Short(_) | Help::Never));
        for (path, slot, said, truth) in run.compare() {
            prop_assert!(said <= truth, "path {:?} on slot {}: {} of {}", path, slot, said, truth);
            prop_assert!(!complete || said == truth);
        }
    }
}
