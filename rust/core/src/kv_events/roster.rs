//! What all publishers together come to for readers, kept up with each change of one: thousands of them connect within a moment, and what each of
//! them changes must not cost a look at all the others.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::keys::{Group, Holder, View};
use super::publisher::{Facts, Publisher};

/// What each publisher counts for in the view.
#[derive(Debug, Default)]
pub(super) struct Roster {
    entries: HashMap<u64, (Holder, Arc<Facts>)>,
    /// Publishers of a slot that make its cache known.
    knowing: HashMap<u32, u32>,
    /// Publishers that have blocks of an adapter.
    adapters: HashMap<Arc<str>, u32>,
    view: View,
}

impl Roster {
    /// A publisher has come, or (`facts`) what is known of it has changed. A publisher that has left stays away.
    pub(super) fn set(&mut self, id: u64, facts: &Arc<Facts>) {
        let Some((holder, before)) = self.entries.get_mut(&id) else {
            return;
        };
        let holder = *holder;
        let before = std::mem::replace(before, Arc::clone(facts));
        self.change(holder, Some(&before), Some(facts));
    }

    pub(super) fn add(&mut self, id: u64, holder: Holder, facts: &Arc<Facts>) {
        self.entries.insert(id, (holder, Arc::clone(facts)));
        self.change(holder, None, Some(facts));
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some((holder, facts)) = self.entries.remove(&id) {
            self.change(holder, Some(&facts), None);
        }
    }

    /// As readers get it.
    pub(super) fn view(&self) -> View {
        self.view.clone()
    }

    fn change(&mut self, holder: Holder, before: Option<&Facts>, after: Option<&Facts>) {
        self.view.publishers = self.entries.len();
        let knows = |facts: Option<&Facts>| facts.is_some_and(Facts::makes_known);
        if knows(before) != knows(after) {
            let is_known = count(&mut self.knowing, &holder.slot, knows(after)) > 0;
            self.view.known.set(holder.slot, is_known);
        }
        let group = |facts: Option<&Facts>| {
            facts.and_then(|facts| Some((facts.block_tokens?, facts.base_model.clone())))
        };
        let (old, new) = (group(before), group(after));
        if old != new {
            if let Some(old) = old {
                self.leave(&old, holder);
            }
            if let Some(new) = new {
                self.join(new, holder);
            }
        }
        let adapters = |facts: Option<&Facts>| facts.map(|facts| Arc::clone(&facts.adapters));
        let (old, new) = (adapters(before), adapters(after));
        let same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if !same {
            for name in new.iter().flat_map(|names| names.iter()) {
                count(&mut self.adapters, name, true);
            }
            for name in old.iter().flat_map(|names| names.iter()) {
                count(&mut self.adapters, name, false);
            }
            if self.adapters.len() != self.view.adapters.len()
                || !self
                    .adapters
                    .keys()
                    .all(|name| self.view.adapters.contains(name))
            {
                self.view.adapters = Arc::new(self.adapters.keys().cloned().collect());
            }
        }
    }

    fn join(&mut self, (block_tokens, base_model): (u32, Option<Arc<str>>), holder: Holder) {
        let mut groups = self.view.groups.iter_mut();
        let group = groups
            .find(|group| group.block_tokens == block_tokens && group.base_model == base_model);
        match group {
            Some(group) => group.holders.push(holder),
            None => self.view.groups.push(Group {
                block_tokens,
                base_model,
                holders: vec![holder],
            }),
        }
        self.order();
    }

    /// Prompts are cut by the sizes that most engines use.
    fn order(&mut self) {
        let groups = &mut self.view.groups;
        // Those of as many in an order that does not change.
        groups.sort_by_key(|group| (std::cmp::Reverse(group.holders.len()), group.block_tokens));
    }

    fn leave(&mut self, (block_tokens, base_model): &(u32, Option<Arc<str>>), holder: Holder) {
        let groups = &mut self.view.groups;
        let position = groups.iter().position(|group| {
            group.block_tokens == *block_tokens && group.base_model == *base_model
        });
        let Some(position) = position else {
            return;
        };
        let holders = &mut groups[position].holders;
        if let Some(place) = holders.iter().position(|one| *one == holder) {
            holders.swap_remove(place);
        }
        if holders.is_empty() {
            groups.remove(position);
        }
        self.order();
    }
}

/// The publishers, and the numbers under which the index knows their engines.
#[derive(Debug, Default)]
pub(super) struct Register {
    pub(super) by_id: HashMap<u64, Arc<Publisher>>,
    of_slot: HashMap<u32, Vec<u64>>,
    owners: HashSet<u32>,
    /// Below it no number is free.
    lowest_free: u32,
}

/// Numbers of the index are below this one.
const NUMBERS: u32 = u16::MAX as u32;

impl Register {
    /// A number for an engine in the index: its endpoint's slot for the first, the lowest that is free for others. Numbers stay small, as what
    /// readers keep by number grows with the highest.
    pub(super) fn holder(&mut self, slot: u32) -> Holder {
        if !self.owners.contains(&slot) {
            return Holder { slot, owner: slot };
        }
        while self.owners.contains(&self.lowest_free) {
            self.lowest_free += 1;
        }
        // More engines than the index has numbers: they share their endpoint's.
        let owner = Some(self.lowest_free).filter(|number| *number < NUMBERS);
        Holder {
            slot,
            owner: owner.unwrap_or(slot),
        }
    }

    pub(super) fn insert(&mut self, publisher: Publisher) {
        let Holder { slot, owner } = publisher.holder;
        self.of_slot.entry(slot).or_default().push(publisher.id);
        self.owners.insert(owner);
        self.by_id.insert(publisher.id, Arc::new(publisher));
    }

    /// The number that nobody has any more, if so.
    pub(super) fn remove(&mut self, publisher: &Publisher) -> Option<u32> {
        let Holder { slot, owner } = publisher.holder;
        self.by_id.remove(&publisher.id)?;
        if let Some(ids) = self.of_slot.get_mut(&slot) {
            ids.retain(|id| *id != publisher.id);
            if ids.is_empty() {
                self.of_slot.remove(&slot);
            }
        }
        // Only engines of one endpoint ever share a number.
        let shares = self.ids_of(slot).iter().any(|id| {
            let other = self.by_id.get(id);
            other.is_some_and(|other| other.holder.owner == owner)
        });
        if shares {
            return None;
        }
        self.owners.remove(&owner);
        self.lowest_free = self.lowest_free.min(owner);
        Some(owner)
    }

    /// Whether a number is a publisher's.
    pub(super) fn uses(&self, owner: u32) -> bool {
        self.owners.contains(&owner)
    }

    pub(super) fn ids_of(&self, slot: u32) -> &[u64] {
        self.of_slot.get(&slot).map_or(&[], Vec::as_slice)
    }
}

/// Counts one more or one less; how many there are then. Those of which there is none are not kept.
fn count<Key: Clone + Eq + std::hash::Hash>(
    counts: &mut HashMap<Key, u32>,
    key: &Key,
    more: bool,
) -> u32 {
    let count = counts.entry(key.clone()).or_insert(0);
    *count = if more {
        *count + 1
    } else {
        count.saturating_sub(1)
    };
    let left = *count;
    if left == 0 {
        counts.remove(key);
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::publisher::Engine;
    use super::*;

    /// All that readers can ask of a view.
    type Told = (
        usize,
        BTreeSet<u32>,
        BTreeSet<Arc<str>>,
        BTreeMap<(u32, Option<Arc<str>>), BTreeSet<(u32, u32)>>,
    );

    fn told(view: &View) -> Told {
        let holders = |group: &Group| {
            let pairs = group.holders.iter();
            pairs.map(|holder| (holder.slot, holder.owner)).collect()
        };
        (
            view.publishers,
            (0..70).filter(|slot| view.known.contains(*slot)).collect(),
            view.adapters.iter().cloned().collect(),
            (view.groups.iter())
                .map(|group| {
                    let key = (group.block_tokens, group.base_model.clone());
                    (key, holders(group))
                })
                .collect(),
        )
    }

    fn from_scratch(entries: &BTreeMap<u64, (Holder, Arc<Facts>)>) -> Told {
        let mut told = Told::default();
        told.0 = entries.len();
        for (holder, facts) in entries.values() {
            if facts.connected && facts.delivered {
                told.1.insert(holder.slot);
            }
            told.2.extend(facts.adapters.iter().cloned());
            if let Some(block_tokens) = facts.block_tokens {
                let group = (block_tokens, facts.base_model.clone());
                let holders = told.3.entry(group).or_default();
                holders.insert((holder.slot, holder.owner));
            }
        }
        told
    }

    #[test]
    fn after_any_change_the_view_is_what_a_look_at_all_publishers_would_make_it() {
        let mut random = fastrand::Rng::with_seed(5);
        let names: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        let mut roster = Roster::default();
        let mut register = Register::default();
        let mut entries: BTreeMap<u64, (Holder, Arc<Facts>)> = BTreeMap::new();
        for step in 0..5_000 {
            let any = entries.keys().nth(random.usize(..entries.len().max(1)));
            let any = any.copied();
            match (random.u8(..8), any) {
                (0, _) | (_, None) => {
                    let slot = random.u32(..70);
                    let holder = register.holder(slot);
                    let free = || (0..u32::MAX).find(|number| !register.uses(*number));
                    assert_eq!(
                        Some(holder.owner),
                        if register.uses(slot) {
                            free()
                        } else {
                            Some(slot)
                        }
                    );
                    assert!(entries.values().all(|(one, _)| one.owner != holder.owner));
                    register.insert(Publisher::new(step, holder, "", 0, Engine::Vllm));
                    let facts = Arc::new(Facts::default());
                    roster.add(step, holder, &facts);
                    entries.insert(step, (holder, facts));
                }
                (1, Some(id)) => {
                    roster.remove(id);
                    roster.remove(id);
                    let publisher = Arc::clone(&register.by_id[&id]);
                    assert_eq!(register.remove(&publisher), Some(publisher.holder.owner));
                    assert!(!register.uses(publisher.holder.owner));
                    assert_eq!(register.remove(&publisher), None);
                    entries.remove(&id);
                    roster.set(id, &Arc::new(Facts::default()));
                }
                (_, Some(id)) => {
                    let adapters = names.iter().filter(|_| random.bool()).cloned();
                    let adapters: HashSet<Arc<str>> = adapters.collect();
                    let facts = Arc::new(Facts {
                        block_tokens: random.bool().then(|| 16 << random.u32(..2)),
                        base_model: random.bool().then(|| Arc::clone(&names[0])),
                        adapters: Arc::new(adapters),
                        delivered: random.bool(),
                        connected: random.bool(),
                    });
                    roster.set(id, &facts);
                    entries.insert(id, (register.by_id[&id].holder, facts));
                }
            }
            assert_eq!(told(&roster.view()), from_scratch(&entries));
        }
        for id in entries.keys() {
            roster.remove(*id);
            let publisher = Arc::clone(&register.by_id[id]);
            register.remove(&publisher);
        }
        assert_eq!(told(&roster.view()), Told::default());
        assert!(register.owners.is_empty() && register.of_slot.is_empty());
    }
}
