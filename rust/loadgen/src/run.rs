//! The frame of every run: threads with a runtime each, warm-up, the measured time, and the processes watched.

use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::error::LoadError;
use crate::pace::{Pace, Window};
use crate::process;
use crate::report::{ProcessSample, Recorder, Report};
use crate::target::Target;

/// Options that every kind of load has.
#[derive(Args, Clone, Debug, Serialize)]
pub struct RunOptions {
    /// `host:port` or `unix:/path`.
    #[arg(long)]
    #[serde(serialize_with = "as_text")]
    pub target: Target,
    /// Connections to open.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Requests under way at once: exactly so many in the closed loop, at most so many in the open loop
    /// (http: as many connections are opened).
    #[arg(long, default_value_t = 64)]
    pub streams: usize,
    /// Open loop: requests a second, whatever the answers do. Without it: closed loop.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds before that, whose requests do not count (their errors do).
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Load threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seconds until a request without a complete answer is an error.
    #[arg(long, default_value_t = 5.0)]
    pub timeout: f64,
    /// Process whose CPU and memory are reported; may be given several times.
    #[arg(long)]
    pub pid: Vec<u32>,
}

fn as_text<S: serde::Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(target)
}

impl RunOptions {
    /// Checks what clap cannot check alone.
    ///
    /// # Errors
    /// A count is zero, or a time or the rate is not a positive number.
    pub fn check(&self) -> Result<(), LoadError> {
        if self.connections == 0 || self.streams == 0 || self.threads == 0 {
            return Err(LoadError::Argument(
                "--connections, --streams and --threads must be at least 1".to_owned(),
            ));
        }
        let usable = |value: f64| value.is_finite() && (0.0..=86_400.0).contains(&value);
        if !usable(self.duration)
            || !usable(self.warmup)
            || !usable(self.timeout)
            || self.duration <= 0.0
        {
            return Err(LoadError::Argument(
                "--duration, --warmup and --timeout are seconds, at most a day; --duration above 0"
                    .to_owned(),
            ));
        }
        if self
            .rate
            .is_some_and(|rate| !rate.is_finite() || !(0.1..=1e6).contains(&rate))
        {
            return Err(LoadError::Argument(
                "--rate must be between 0.1 and 1,000,000".to_owned(),
            ));
        }
        Ok(())
    }

    /// The time limit of one request.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// How many of `count` things the thread of this number has; the parts differ by at most one and are at least one.
    pub fn share(&self, count: usize, thread: usize) -> usize {
        (count / self.threads + usize::from(thread < count % self.threads)).max(1)
    }
}

/// Runs `load` on each thread, in a runtime of its own, and reports what the threads counted together.
/// `load` gets the number of its thread and ends when `pace` does.
///
/// # Errors
/// The options are wrong, nobody listens at the target, a watched process does not exist, or a runtime cannot be built.
pub fn run<Load, Work>(
    options: &RunOptions,
    settings: serde_json::Value,
    load: Load,
) -> Result<Report, LoadError>
where
    Load: Fn(usize, Pace) -> Work + Send + Sync + 'static,
    Work: Future<Output = Recorder>,
{
    options.check()?;
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LoadError::io("cannot start a runtime"))
    };
    build()?
        .block_on(options.target.connect())
        .map_err(LoadError::io(format!(
            "cannot connect to {}",
            options.target
        )))?;
    for pid in &options.pid {
        process::usage(&pid.to_string())?;
    }
    let window = Window::starting_now(
        Duration::from_secs_f64(options.warmup),
        Duration::from_secs_f64(options.duration),
    );
    let pace = match options.rate {
        Some(rate) => Pace::open(window, rate, options.streams.max(options.threads)),
        None => Pace::closed(window),
    };
    let load = Arc::new(load);
    let mut threads = Vec::new();
    for number in 0..options.threads {
        let (load, pace, runtime) = (Arc::clone(&load), pace.clone(), build()?);
        threads.push(thread::spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, load(number, pace))
        }));
    }
    let sample = || -> Result<_, LoadError> {
        let watched = options
            .pid
            .iter()
            .map(|pid| process::usage(&pid.to_string()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((watched, process::usage("self")?))
    };
    thread::sleep(window.from.saturating_duration_since(Instant::now()));
    let before = sample()?;
    thread::sleep(window.until.saturating_duration_since(Instant::now()));
    let after = sample()?;
    let mut total = Recorder::new(pace);
    for thread in threads {
        total.add(&thread.join().map_err(|_| LoadError::Worker)?);
    }
    let samples: Vec<ProcessSample> = options
        .pid
        .iter()
        .zip(before.0.into_iter().zip(after.0))
        .map(|(pid, (before, after))| ProcessSample {
            pid: *pid,
            before,
            after,
        })
        .collect();
    Ok(total.report(&samples, (before.1, after.1), settings))
}
