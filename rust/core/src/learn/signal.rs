//! How the policy hears of first tokens.

/// What an endpoint's rates are learnt from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// The first token of every answer is seen.
    FirstToken,
    /// Those of a share of the answers.
    Sampled,
    /// The engine says when it has stored a prompt's last block.
    KvEvents,
    /// The engine's own counters in the scraped page.
    Counters,
    /// Only the ends of answers.
    Ends,
    /// Nothing for a minute.
    None,
}

impl Signal {
    /// Every signal, the best first.
    pub const ALL: [Self; 6] = [
        Self::FirstToken,
        Self::Sampled,
        Self::KvEvents,
        Self::Counters,
        Self::Ends,
        Self::None,
    ];

    /// As the metrics page names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstToken => "first_token",
            Self::Sampled => "sampled",
            Self::KvEvents => "kv_events",
            Self::Counters => "counters",
            Self::Ends => "ends",
            Self::None => "none",
        }
    }
}
