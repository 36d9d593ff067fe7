//! Names that publishers choose, as numbers and under bounds: media (tiers) and kinds of attention.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::prefix::exact::Tier;

/// Media with a name; the last tier is for speculative entries.
pub const MOST_TIERS: usize = 15;
/// Media that one publisher may be the first to name, so that none uses up what the others need.
pub(super) const NEW_TIERS: usize = 4;

/// Media by their tier's number. Each decision reads them, a handful of times in a process one is added.
#[derive(Debug)]
pub(super) struct Tiers {
    names: ArcSwap<Vec<Arc<str>>>,
    adding: Mutex<()>,
}

impl Default for Tiers {
    fn default() -> Self {
        Self {
            names: ArcSwap::from_pointee(vec!["gpu".into(), "cpu".into()]),
            adding: Mutex::default(),
        }
    }
}

impl Tiers {
    pub(super) fn all(&self) -> Guard<Arc<Vec<Arc<str>>>> {
        self.names.load()
    }

    /// The tier of a medium, in lower case, and whether it is a new one; none when it is unknown and may not be added.
    pub(super) fn resolve(&self, medium: &str, may_add: bool) -> Option<(Tier, bool)> {
        let find = |names: &[Arc<str>]| {
            let number = names.iter().position(|name| **name == *medium)?;
            Some((Tier(number as u8), false))
        };
        if let Some(found) = find(&self.names.load()) {
            return Some(found);
        }
        let _one_at_a_time = self.adding.lock();
        let known = self.names.load();
        if let Some(found) = find(&known) {
            return Some(found);
        }
        if !may_add || known.len() >= MOST_TIERS {
            return None;
        }
        let mut names = Vec::clone(&known);
        names.push(medium.into());
        let tier = Tier((names.len() - 1) as u8);
        self.names.store(Arc::new(names));
        Some((tier, true))
    }
}

/// Kinds of attention as vLLM's cache specifications name them.
const KINDS: [&str; 12] = [
    "unknown",
    "other",
    "full_attention",
    "mla_attention",
    "sink_full_attention",
    "sliding_window",
    "sliding_window_mla",
    "chunked_local_attention",
    "mamba",
    "cross_attention",
    "encoder_only_attention",
    "cross_layer",
];

/// Kind of attention of a group of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    /// A group of which no kind was told; engines with one group tell none.
    pub(super) const UNKNOWN: Self = Self(0);

    pub(super) fn of(name: &str) -> Self {
        // `SGLang`'s components of a cache.
        let name = match name {
            "full" => "full_attention",
            "swa" => "sliding_window",
            name => name,
        };
        let known = KINDS.iter().position(|kind| *kind == name);
        Self(known.unwrap_or(1) as u8)
    }

    /// Value of the label `cache_kind`.
    pub(super) fn label(self) -> &'static str {
        KINDS[usize::from(self.0)]
    }

    /// A block of such a group stays usable as long as it is held: only of those a prefix can be counted.
    pub(super) fn is_indexed(self) -> bool {
        matches!(self.0, 0 | 2..=4)
    }
}
