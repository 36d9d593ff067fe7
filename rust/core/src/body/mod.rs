//! Request and response bodies: read once as bytes, in whatever pieces they arrive, and edited in place.
//!
//! [`BodyScanner`] reads a request, [`UsageScanner`] a response; both stand on one incremental JSON tokenizer (`json`)
//! that accepts exactly what Go's `encoding/json` accepts. What differs per API is a table in its family's file.

mod anthropic;
mod capture;
mod dialect;
mod go_error;
mod handler;
mod json;
mod nesting;
mod number;
mod openai;
mod prompt;
mod rewrite;
mod scan;
mod sequence;
mod sse;
mod table;
mod text;
mod usage;
mod vllm;

pub use dialect::Dialect;
pub use go_error::go_error;
pub use rewrite::{edit_model, restore_model};
pub use scan::{BodyScanner, MAX_SEQUENCES, ScanError, ScanLimits, ScannedBody};
pub use usage::{ResponseKind, Usage, UsageScanner};
