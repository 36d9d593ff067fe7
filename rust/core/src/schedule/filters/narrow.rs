//! What filters share that look at one endpoint at a time.

/// Drops the rows that do not pass. With `fallback_on_empty` nothing is dropped where none of the rows still kept passes.
pub(crate) fn narrow(keep: &mut [bool], fallback_on_empty: bool, passes: impl Fn(usize) -> bool) {
    let mut rows = keep.iter().enumerate();
    if fallback_on_empty && !rows.any(|(row, keep)| *keep && passes(row)) {
        return;
    }
    for (row, keep) in keep.iter_mut().enumerate() {
        *keep = *keep && passes(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_earlier_filters_kept_counts() {
        for (fallback, passing, expected) in [
            (false, 1, [false, true, false]),
            (false, 0, [false; 3]),
            (true, 1, [false, true, false]),
            // Row 0 passes, and was dropped before.
            (true, 0, [false, true, true]),
            (true, 9, [false, true, true]),
        ] {
            let mut keep = [false, true, true];
            narrow(&mut keep, fallback, |row| row == passing);
            assert_eq!(keep, expected, "{fallback} {passing}");
        }
    }
}
