//! Lower is better, relative to the other candidates.

/// Scores `(most - value) / (most - least)` over the candidates; all 1 when they are equal. A value that is no number stays without a score (NaN).
pub(super) fn lower_is_better(values: &[f64], scores: &mut [f64]) {
    // `f64::min` and `f64::max` pass over NaN.
    let (least, most) = values.iter().fold(
        (f64::INFINITY, f64::NEG_INFINITY),
        |(least, most), value| (least.min(*value), most.max(*value)),
    );
    for (score, value) in scores.iter_mut().zip(values) {
        *score = if value.is_nan() {
            f64::NAN
        } else if most > least {
            (most - value) / (most - least)
        } else {
            1.0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f64]) -> Vec<f64> {
        let mut scores = vec![0.0; values.len()];
        lower_is_better(values, &mut scores);
        scores
    }

    #[test]
    fn the_least_gets_one_and_the_most_nothing() {
        assert_eq!(scores(&[10.0, 5.0, 0.0]), [0.0, 0.5, 1.0]);
    }

    #[test]
    fn equal_values_and_a_single_one_get_one() {
        assert_eq!(scores(&[7.0, 7.0]), [1.0, 1.0]);
        assert_eq!(scores(&[3.0]), [1.0]);
        assert_eq!(scores(&[]), [0.0; 0]);
    }

    #[test]
    fn what_is_no_number_does_not_disturb_the_others() {
        let scores = scores(&[f64::NAN, 4.0, 0.0]);
        assert!(scores[0].is_nan());
        assert_eq!(scores[1..], [0.0, 1.0]);
    }
}
