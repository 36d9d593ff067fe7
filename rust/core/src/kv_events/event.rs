//! What an engine says about its cache, as read from a message; texts point into it.

/// One event.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// Blocks are held from now on.
    Stored(Stored<'a>),
    /// Blocks are held no longer.
    Removed(Removed<'a>),
    /// Nothing is held any longer.
    Cleared,
    /// Of a type that this version does not know.
    Unknown,
}

/// Fields of a `BlockStored`; hashes and tokens are in the [`Scratch`].
#[derive(Debug, Default)]
pub(super) struct Stored<'a> {
    /// Hash of the block before the first.
    pub(super) parent: Option<u64>,
    /// Tokens a block, as claimed.
    pub(super) block_size: u64,
    /// Number of the adapter, as text.
    pub(super) adapter_number: Option<u64>,
    /// Name of the adapter.
    pub(super) adapter: Option<&'a str>,
    pub(super) medium: Option<&'a str>,
    /// Salt of the cache, where it has a field of its own.
    pub(super) salt: Option<&'a str>,
    /// Blocks that the list of extra keys speaks of; none when there is no list.
    pub(super) extra_blocks: Option<usize>,
    /// What the hashes of blocks depend on beside their tokens: number of the block among the event's, and what.
    pub(super) extras: Vec<(u32, Extra<'a>)>,
    pub(super) group: Option<u64>,
    /// Kind of attention of the group.
    pub(super) kind: Option<&'a str>,
}

/// Fields of a `BlockRemoved`; hashes are in the [`Scratch`].
#[derive(Debug, Default)]
pub(super) struct Removed<'a> {
    pub(super) medium: Option<&'a str>,
    pub(super) group: Option<u64>,
    /// Kind of attention, where the event itself tells.
    pub(super) kind: Option<&'a str>,
}

/// One extra key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra<'a> {
    /// A hash of a medium, a salt, an adapter's name.
    Text(&'a str),
    /// A hash of prompt embeddings.
    Bytes(&'a [u8]),
    /// A number of an adapter, in older engines.
    Number(u64),
}

/// Lists of the event at hand, reused from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) hashes: Vec<u64>,
    pub(super) tokens: Vec<u32>,
}

impl Scratch {
    /// Gives back what one unusually large message made it grow to.
    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 1 << 16;
        self.hashes.clear();
        self.tokens.clear();
        self.hashes.shrink_to(KEPT);
        self.tokens.shrink_to(KEPT);
    }
}
