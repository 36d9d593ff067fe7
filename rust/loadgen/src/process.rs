//! CPU time and memory of processes, from `/proc`.

use crate::error::LoadError;

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of all its threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory now, in bytes.
    pub resident_bytes: u64,
    /// Most resident memory ever, in bytes.
    pub peak_resident_bytes: u64,
}

/// Reads `process`, a pid or `self`.
///
/// # Errors
/// There is no such process, or `/proc` has another form.
pub fn usage(process: &str) -> Result<Usage, LoadError> {
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        std::fs::read_to_string(&path).map_err(LoadError::io(path))
    };
    let unreadable = || LoadError::Argument(format!("/proc/{process}/stat has an unknown form"));
    let stat = read("stat")?;
    // The name is in parentheses and may contain anything; utime and stime are the 14th and 15th fields.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unreadable)?;
    let ticks: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, system] = ticks[..] else {
        return Err(unreadable());
    };
    let status = read("status")?;
    let kilobytes = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    Ok(Usage {
        cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND,
        resident_bytes: kilobytes("VmRSS:"),
        peak_resident_bytes: kilobytes("VmHWM:"),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read_and_a_missing_one_is_an_error() {
        let usage = usage("self").unwrap();
        assert!(usage.resident_bytes > 0 && usage.peak_resident_bytes >= usage.resident_bytes);
        assert!(matches!(super::usage("4194999"), Err(LoadError::Io(..))));
    }
}
