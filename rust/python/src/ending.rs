//! The end of the process, whatever Python does meanwhile.

use std::io;
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

const STATUS: i32 = 1;

/// Python sees a signal only when it runs, and a plugin that never returns from C code keeps it from running. So the process is ended from here when it
/// still stands some time after it was asked to end. What Python does on these signals it does as before.
#[pyfunction]
pub(crate) fn end_after_signals(first_seconds: f64, second_seconds: f64) -> PyResult<()> {
    let limits = [limit(first_seconds)?, limit(second_seconds)?];
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    thread::Builder::new()
        .name("ending".into())
        .spawn(move || {
            for (limit, _) in limits.into_iter().zip(signals.forever()) {
                thread::spawn(move || end_after(limit));
            }
        })
        .map_err(failed)?;
    Ok(())
}

fn end_after(limit: Duration) {
    thread::sleep(limit);
    eprintln!(
        "warmroute: still running {} s after it was asked to end, perhaps held up by a plugin in Python; ended now",
        limit.as_secs_f64()
    );
    low_level::exit(STATUS);
}

fn limit(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("{seconds} seconds: {error}")))
}

fn failed(error: io::Error) -> PyErr {
    PyOSError::new_err(error)
}
