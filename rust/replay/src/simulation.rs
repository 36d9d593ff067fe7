//! A trace against a pool: a real engine picks, simulated replicas serve, time is simulated. The same trace, settings and policy give the same result.

mod arrivals;
mod blocks;
mod router;
mod run;
mod settings;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use warmroute_core::engine::PolicySpec;

pub use settings::{Settings, Signals, SimulationError};

use crate::report::Report;
use crate::trace::Trace;
use run::Run;

/// How far a simulation is; shared with who waits for it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Requests that have ended, told every thousand or so.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Asks the simulation to end, with [`SimulationError::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn tell(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Reads a policy as `warmroute.config` writes it.
///
/// # Errors
/// What is not the JSON of a policy.
pub fn read_policy(json: &str) -> Result<PolicySpec, SimulationError> {
    serde_json::from_str(json).map_err(SimulationError::PolicyJson)
}

/// Plays a trace. Uses the thread's `fastrand` generator, and leaves it in a state that the simulation's seed does not tell.
///
/// # Errors
/// Settings or a policy that cannot be used; [`SimulationError::Cancelled`].
pub fn simulate(
    trace: &Trace,
    settings: &Settings,
    policy: &PolicySpec,
    progress: &Progress,
) -> Result<Report, SimulationError> {
    settings.check()?;
    let after = fastrand::u64(..);
    // Parts of the engine that draw without a generator of their own.
    fastrand::seed(settings.seed);
    let result = Run::new(trace, settings, policy).and_then(|run| run.finish(progress));
    fastrand::seed(after);
    result
}

#[cfg(test)]
mod tests;
