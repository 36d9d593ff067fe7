//! One of several, by weight.

/// A place, drawn in proportion to these weights (at least 0); `None`: all are 0. `chance`: 0 to 1.
pub(super) fn draw(weights: &[f64], chance: f64) -> Option<usize> {
    let mut rest = chance * weights.iter().sum::<f64>();
    let mut last = None;
    for (place, weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0.0)
    {
        last = Some(place);
        if rest < *weight {
            break;
        }
        rest -= weight;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_drawn_by_weight_and_never_one_without() {
        let weights = [0.0, 1.0, 0.0, 2.0, 1.0, 0.0];
        for (chance, place) in [
            (0.0, 1),
            (0.24, 1),
            (0.25, 3),
            (0.74, 3),
            (0.75, 4),
            // Rounding must not lead beyond the last one.
            (1.0, 4),
        ] {
            assert_eq!(draw(&weights, chance), Some(place), "{chance}");
        }
        assert_eq!(draw(&[0.0, 0.0], 0.5), None);
        assert_eq!(draw(&[], 0.5), None);
    }
}
