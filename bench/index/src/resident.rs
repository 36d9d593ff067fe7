//! Resident memory of this process.

/// Bytes now.
///
/// # Panics
///
/// Without Linux's `/proc`.
pub fn bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("the bench runs on Linux");
    let kilobytes = text.lines().find_map(|line| {
        line.strip_prefix("Rss:")?
            .split_whitespace()
            .next()?
            .parse::<usize>()
            .ok()
    });
    kilobytes.expect("smaps_rollup has a line `Rss: … kB`") * 1024
}
