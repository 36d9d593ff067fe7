//! To what times were rounded when a trace was recorded.

/// Requests from which on equal times are taken for rounding, not for chance.
const ENOUGH: usize = 20;

/// Seconds of the granule to which times were rounded: the smallest gap, where at least half of the requests share their time with the one before;
/// 0 where times are exact. (The Mooncake conversation trace: 12,031 requests at 1,180 times, about 3 s apart.)
pub(super) fn granularity(mut times: Vec<f64>) -> f64 {
    if times.len() < ENOUGH {
        return 0.0;
    }
    times.sort_unstable_by(f64::total_cmp);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let (mut equal, mut smallest) = (0, f64::INFINITY);
    for gap in gaps {
        if gap > 0.0 {
            smallest = smallest.min(gap);
        } else {
            equal += 1;
        }
    }
    let rounded = equal * 2 >= times.len() && smallest.is_finite();
    if rounded { smallest } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_most_requests_share_are_rounded_and_others_are_exact() {
        let rounded = (0..100).map(|number: i32| f64::from(number / 10) * 3.0);
        assert!((granularity(rounded.collect()) - 3.0).abs() < 1e-12);
        let exact = (0..100).map(|number| f64::from(number) * 0.7);
        assert!(granularity(exact.collect()).abs() < 1e-12);
        assert!(
            granularity(vec![5.0; 100]).abs() < 1e-12,
            "one burst says nothing of a granule"
        );
        assert!(
            granularity(vec![0.0, 0.0, 3.0]).abs() < 1e-12,
            "too few to tell"
        );
    }
}
