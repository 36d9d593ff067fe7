//! One sequence of a prompt: canonical bytes, gathered and hashed into blocks.

use crate::prefix::BlockHasher;

/// Between two leaves: a byte that cannot stand unescaped in JSON, so no text imitates it by accident.
const SEPARATOR: u8 = 0x1f;
/// Bytes of a canonical token.
pub(super) const TOKEN_BYTES: u64 = 4;
/// Runs shorter than this are gathered before they are hashed.
const STAGE_BYTES: usize = 1024;

/// One sequence of canonical bytes.
#[derive(Debug)]
pub(super) struct Sequence {
    hasher: BlockHasher,
    stage: Vec<u8>,
    has_leaf: bool,
}

impl Sequence {
    /// Empty.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            hasher: BlockHasher::new(limits.block_tokens, limits.max_blocks),
            stage: Vec::new(),
            has_leaf: false,
        }
    }

    /// Appends canonical bytes.
    pub(super) fn push(&mut self, run: &[u8]) {
        if self.stage.capacity() == 0 {
            self.stage.reserve_exact(STAGE_BYTES);
        }
        if self.stage.len() + run.len() > STAGE_BYTES {
            self.hasher.push(&self.stage);
            self.stage.clear();
            if run.len() >= STAGE_BYTES / 2 {
                self.hasher.push(run);
                return;
            }
        }
        self.stage.extend_from_slice(run);
    }

    /// Appends a token id. The same as its bytes, but made for long lists of them.
    pub(super) fn push_token(&mut self, token: u32) {
        let bytes = token.to_le_bytes();
        if self.stage.len() + bytes.len() <= self.stage.capacity() {
            self.stage.extend_from_slice(&bytes);
        } else {
            self.push(&bytes);
        }
    }

    /// What comes next is a leaf of its own.
    pub(super) fn begin_leaf(&mut self) {
        if self.has_leaf {
            self.push(&[SEPARATOR]);
        }
        self.has_leaf = true;
    }

    /// Block ids and tokens of what was pushed; what comes next is another sequence.
    pub(super) fn finish(&mut self, limits: Limits) -> (Vec<u64>, u64) {
        self.hasher.push(&self.stage);
        self.stage.clear();
        self.has_leaf = false;
        let hasher = std::mem::replace(
            &mut self.hasher,
            BlockHasher::new(limits.block_tokens, limits.max_blocks),
        );
        let (blocks, bytes) = hasher.finish();
        (blocks, bytes.div_ceil(TOKEN_BYTES))
    }
}

/// How a sequence is cut into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) block_tokens: u32,
    pub(super) max_blocks: usize,
}
