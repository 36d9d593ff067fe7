//! KV events from their frames to what the index answers, and to what is decided by it.

mod decisions;
mod exchanges;
mod forms;
mod gateway;
mod hostile;
mod lifetimes;
mod prefills;
mod recorded;
mod replays;
mod streams;
mod wire;
