//! What the producers of prefix matches tell of the candidates: one column each.

use std::sync::{Arc, LazyLock};

/// How much of the prompt each endpoint holds, by what one producer knows. Where it is a column of candidates the index is a row, before they are gathered a slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrefixColumn {
    /// Name of the plugin.
    pub producer: Arc<str>,
    /// Blocks of the prompt that could be matched, over all its sequences.
    pub total_blocks: u32,
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Blocks matched from the start, summed over the sequences: those in slower memory count for less.
    pub blocks: Vec<u32>,
    /// The same, with all memory alike; empty where there is only one kind.
    pub held: Vec<u32>,
}

static NOTHING: LazyLock<PrefixColumn> = LazyLock::new(PrefixColumn::default);

impl PrefixColumn {
    /// Nobody holds anything, of a prompt without blocks.
    pub fn nothing() -> &'static Self {
        &NOTHING
    }

    /// Blocks matched, slower memory counting for less; 0 for a row that is not there.
    pub fn blocks(&self, row: usize) -> u32 {
        self.blocks.get(row).copied().unwrap_or(0)
    }

    /// Blocks held in any memory.
    pub fn held(&self, row: usize) -> u32 {
        self.held_blocks().get(row).copied().unwrap_or(0)
    }

    /// The same of all rows; those beyond its end hold nothing.
    pub fn held_blocks(&self) -> &[u32] {
        if self.held.is_empty() {
            &self.blocks
        } else {
            &self.held
        }
    }

    /// Tokens that need not be computed: those held in any memory.
    pub fn cached_tokens(&self, row: usize) -> u64 {
        u64::from(self.held(row)) * u64::from(self.block_tokens)
    }

    /// Makes this the rows `rows` of another column, in place.
    fn take(&mut self, from: &Self, rows: &(impl Iterator<Item = u32> + Clone)) {
        self.describe(from);
        let take = |column: &[u32], into: &mut Vec<u32>| {
            into.clear();
            if !column.is_empty() {
                let value = |row: u32| column.get(row as usize).copied().unwrap_or(0);
                into.extend(rows.clone().map(value));
            }
        };
        take(&from.blocks, &mut self.blocks);
        take(&from.held, &mut self.held);
    }

    /// Takes over all but the numbers of endpoints. The same name is not counted up again: this happens in each decision.
    fn describe(&mut self, from: &Self) {
        if !Arc::ptr_eq(&self.producer, &from.producer) {
            self.producer = Arc::clone(&from.producer);
        }
        self.total_blocks = from.total_blocks;
        self.block_tokens = from.block_tokens;
    }
}

/// Makes `into` the given rows of each column of `from`, keeping its allocations. Rows that are not there hold nothing.
pub(crate) fn gather_columns(
    from: &[PrefixColumn],
    rows: &(impl Iterator<Item = u32> + Clone),
    into: &mut Vec<PrefixColumn>,
) {
    into.resize_with(from.len(), PrefixColumn::default);
    for (into, from) in into.iter_mut().zip(from) {
        into.take(from, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed_and_what_is_not_there_holds_nothing() {
        let column = PrefixColumn {
            producer: "p".into(),
            total_blocks: 9,
            block_tokens: 16,
            blocks: vec![1, 2, 3],
            held: vec![4, 5, 6],
        };
        let mut packed = vec![PrefixColumn::default(); 3];
        let rows = [2, 0, 7].into_iter();
        gather_columns(std::slice::from_ref(&column), &rows, &mut packed);
        assert_eq!(packed.len(), 1);
        let expected = PrefixColumn {
            blocks: vec![3, 1, 0],
            held: vec![6, 4, 0],
            ..column
        };
        assert_eq!(packed[0], expected);
        assert_eq!((packed[0].held(0), packed[0].cached_tokens(1)), (6, 64));
        assert_eq!((packed[0].blocks(8), packed[0].held(8)), (0, 0));
        let same = PrefixColumn {
            held: Vec::new(),
            ..packed[0].clone()
        };
        assert_eq!(same.held(0), 3, "one kind of memory");
        assert_eq!(PrefixColumn::nothing().cached_tokens(0), 0);
    }
}
