//! GPU utilisation from the page of NVIDIA's DCGM exporter.

use std::fmt;

use memchr::memchr_iter;

use super::page::Sample;

/// The gauge that is read, 0 to 100, one series a GPU.
pub const GPU_UTILIZATION_FAMILY: &str = "DCGM_FI_DEV_GPU_UTIL";
/// The key under which `dcgm-extractor` publishes.
pub const GPU_UTILIZATION_KEY: &str = "GPUUtilization";

/// A page without the gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuPageError {
    /// No readable series at all.
    NoSeries,
    /// All series belong to other pods.
    OtherPods,
}

impl fmt::Display for GpuPageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeries => write!(
                formatter,
                "the page has no series {GPU_UTILIZATION_FAMILY}; does the exporter run with this field?"
            ),
            Self::OtherPods => write!(
                formatter,
                "every series {GPU_UTILIZATION_FAMILY} carries the `pod` label of another endpoint"
            ),
        }
    }
}

impl std::error::Error for GpuPageError {}

/// Utilisation of the busiest GPU, 0 to 1. Series with a `pod` label count when it names `pod`: one exporter may serve the pods of a whole node.
///
/// # Errors
/// `GpuPageError` when no series counts.
pub fn gpu_utilization(page: &[u8], pod: &str) -> Result<f64, GpuPageError> {
    let mut busiest: Option<f64> = None;
    let mut others = false;
    let mut start = 0;
    for end in memchr_iter(b'\n', page).chain(std::iter::once(page.len())) {
        let line = page[start..end].trim_ascii_start();
        start = end + 1;
        let Some(rest) = line.strip_prefix(GPU_UTILIZATION_FAMILY.as_bytes()) else {
            continue;
        };
        if !matches!(rest.first(), Some(b'{' | b' ' | b'\t')) {
            continue;
        }
        let Some(sample) = Sample::parse(rest).filter(|sample| sample.value.is_finite()) else {
            continue;
        };
        if sample
            .label("pod")
            .is_some_and(|owner| owner != pod.as_bytes())
        {
            others = true;
        } else {
            busiest = Some(busiest.unwrap_or(0.0).max(sample.value));
        }
    }
    match busiest {
        Some(percent) => Ok((percent / 100.0).min(1.0)),
        None if others => Err(GpuPageError::OtherPods),
        None => Err(GpuPageError::NoSeries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_gpu_of_the_pod_counts() {
        let page = b"# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",pod=\"a\"} 20\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"1\",pod=\"a\"} 55\n\
            DCGM_FI_DEV_GPU_UTIL{gpu=\"2\",pod=\"b\"} 90\n\
            DCGM_FI_DEV_GPU_UTIL_OTHER{pod=\"a\"} 99\n\
            DCGM_FI_DEV_FB_USED{pod=\"a\"} 4000\n";
        assert_eq!(gpu_utilization(page, "a"), Ok(0.55));
        assert_eq!(gpu_utilization(page, "b"), Ok(0.9));
        assert_eq!(gpu_utilization(page, "c"), Err(GpuPageError::OtherPods));
    }

    #[test]
    fn series_without_a_pod_count_for_any_and_values_are_held_within_bounds() {
        for (page, expected) in [
            (&b"DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 40\n"[..], Ok(0.4)),
            (b"DCGM_FI_DEV_GPU_UTIL 250", Ok(1.0)),
            (b"DCGM_FI_DEV_GPU_UTIL -3", Ok(0.0)),
            (
                b"DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} NaN\n",
                Err(GpuPageError::NoSeries),
            ),
            (b"DCGM_FI_DEV_FB_USED 1\n", Err(GpuPageError::NoSeries)),
            (b"", Err(GpuPageError::NoSeries)),
        ] {
            assert_eq!(gpu_utilization(page, "a"), expected);
        }
    }
}
