//! What requests cost on this pool's engines, learnt while it runs: `policy.md` §1, "Updates". No constant of any hardware.
//!
//! [`Rates`] holds the curves of the whole pool, [`Pace`] what differs at one endpoint. Both are given the time and never ask for it:
//! a clock that steps back or jumps costs a sample at most.

mod curve;
mod factor;
mod gap;
mod heard;
mod line;
mod pace;
mod page_totals;
mod rates;
mod signal;
mod slots;

pub use curve::Curve;
pub(crate) use factor::Factor;
pub(crate) use pace::{Measured, Pace, Page};
pub(crate) use page_totals::PageTotals;
pub use rates::{Rates, Sample};
pub use signal::Signal;
pub(crate) use slots::{Queue, Slots};

#[cfg(test)]
mod tests;
