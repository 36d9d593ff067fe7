//! Finds the known name that a typing error meant.

/// The known name closest to `name`, unless they have little in common.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (edit_distance(name.as_bytes(), known.as_bytes()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| distance * 2 <= known.len().max(name.len()))
        .map(|(_, known)| known)
}

/// Levenshtein distance; long inputs are cut, they are no typing errors.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    let left = &left[..left.len().min(64)];
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, byte) in left.iter().enumerate() {
        let mut diagonal = previous[0];
        previous[0] = row + 1;
        for column in 0..right.len() {
            let replace = diagonal + usize::from(*byte != right[column]);
            diagonal = previous[column + 1];
            previous[column + 1] = replace.min(diagonal + 1).min(previous[column] + 1);
        }
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_its_name_and_another_word_does_not() {
        let known = ["queue-scorer", "kv-cache-utilization-scorer"];
        assert_eq!(
            nearest("queue-scorrer", known.into_iter()),
            Some("queue-scorer")
        );
        assert_eq!(
            nearest("kv-cache-utilisation-scorer", known.into_iter()),
            Some("kv-cache-utilization-scorer")
        );
        assert_eq!(nearest("wishful-thinking", known.into_iter()), None);
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
    }
}
