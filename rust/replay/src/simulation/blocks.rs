//! Block ids of a request as its replica and as the picker see them.

/// What makes the blocks of one repetition and adapter others than those of any other; 0: as the trace has them.
pub(super) fn salt(repetition: u32, lora: u16) -> u64 {
    match u64::from(repetition) << 16 | u64::from(lora) {
        0 => 0,
        number => mix(number),
    }
}

/// The trace's ids, salted. `buffer` is only written where they change.
pub(super) fn salted<'a>(ids: &'a [u64], salt: u64, buffer: &'a mut Vec<u64>) -> &'a [u64] {
    if salt == 0 {
        return ids;
    }
    buffer.clear();
    buffer.extend(ids.iter().map(|id| id ^ salt));
    buffer
}

/// Fills `out` with the ids of a prompt's blocks of `block_tokens`, the last one partial, at most `most`, from its `ids` of `unit_tokens` each.
///
/// An id names everything up to its end, so a block is named by the unit that has the block's last token and by where in that unit it ends. Prompts
/// that part within a unit are taken to part at its beginning: the trace does not tell more.
pub(super) fn of_size(
    ids: &[u64],
    (unit_tokens, block_tokens): (u32, u32),
    prompt_tokens: u32,
    most: usize,
    out: &mut Vec<u64>,
) {
    out.clear();
    let (unit_tokens, block_tokens) = (u64::from(unit_tokens), u64::from(block_tokens));
    let tokens = u64::from(prompt_tokens);
    let (mut unit, mut unit_end, mut begin) = (0, unit_tokens, 0);
    while begin < tokens && out.len() < most {
        let end = (begin + block_tokens).min(tokens);
        while unit_end < end {
            unit += 1;
            unit_end += unit_tokens;
        }
        out.push(mix(ids[unit] ^ (unit_end - end).rotate_right(16)));
        begin = end;
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): a bijection that spreads counters over all 64 bits.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[u64], sizes: (u32, u32), tokens: u32) -> Vec<u64> {
        let mut out = Vec::new();
        of_size(ids, sizes, tokens, usize::MAX, &mut out);
        out
    }

    #[test]
    fn prompts_agree_in_blocks_of_any_size_as_far_as_in_their_units() {
        for (unit, block) in [(512, 64), (16, 64), (64, 64), (48, 64), (64, 48), (1, 7)] {
            let tokens = 3_000;
            let count = u64::from(3_000_u32.div_ceil(unit));
            let shared = count / 2;
            let left: Vec<u64> = (0..count).collect();
            let right: Vec<u64> = (0..count)
                .map(|id| if id < shared { id } else { id + 10_000 })
                .collect();
            let (left, right) = (
                of(&left, (unit, block), tokens),
                of(&right, (unit, block), tokens),
            );
            assert_eq!(left.len(), tokens.div_ceil(block) as usize);
            let distinct: hashbrown::HashSet<u64> = left.iter().chain(&right).copied().collect();
            let equal = left
                .iter()
                .zip(&right)
                .take_while(|(left, right)| left == right)
                .count();
            assert_eq!(
                equal as u64,
                shared * u64::from(unit) / u64::from(block),
                "{unit} {block}"
            );
            assert_eq!(distinct.len(), 2 * left.len() - equal);
        }
    }

    #[test]
    fn a_partial_last_block_is_another_than_the_full_one_and_the_limit_holds() {
        let ids = [1, 2, 3, 4];
        let (short, long) = (of(&ids, (16, 32), 40), of(&ids, (16, 32), 64));
        assert!(short[0] == long[0] && short[1] != long[1]);
        let mut out = Vec::new();
        of_size(&ids, (16, 16), 64, 3, &mut out);
        assert_eq!(out.len(), 3);
    }

    #[test]
    fn repetitions_and_adapters_have_blocks_of_their_own() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let ids = [1, 2];
        assert_eq!(salted(&ids, salt(0, 0), &mut first), ids);
        let repeated = salted(&ids, salt(1, 0), &mut first);
        let adapted = salted(&ids, salt(0, 1), &mut second);
        assert!(repeated != ids && adapted != ids && repeated != adapted);
    }
}
