//! KV events from their frames to what the index answers.

mod forms;
mod hostile;
mod recorded;
mod replays;
mod streams;
mod wire;
