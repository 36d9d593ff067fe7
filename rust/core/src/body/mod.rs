//! Request and response bodies: read once as bytes, in whatever pieces they arrive, and edited in place.
//!
//! [`BodyScanner`] reads a request, [`UsageScanner`] a response. HTTP APIs stand on one incremental JSON tokenizer (`json`) that
//! accepts exactly what Go's `encoding/json` accepts; gRPC ones on incremental readers of frames (`frame`) and messages
//! (`protobuf`). What differs per API is a table or a reader in its family's file; which are enabled is told by [`Parsers`].

mod anthropic;
mod capture;
mod dialect;
mod frame;
mod go_error;
mod grpc;
mod handler;
mod json;
mod media;
mod nesting;
mod number;
mod openai;
mod parsers;
mod prompt;
mod protobuf;
mod refusal;
mod rewrite;
mod scan;
mod sequence;
mod sglang;
mod sse;
mod table;
mod text;
mod usage;
mod usage_text;
mod vertexai;
mod vllm;
mod vllm_grpc;

pub use dialect::Dialect;
pub use frame::FrameFault;
pub use go_error::go_error;
pub use media::{MAX_MEDIA, MediaTokens, Medium, MediumKind};
pub use parsers::{NoParser, PARSERS, ParserKind, Parsers, UnknownParser};
pub use protobuf::{WireFault, WireFaultKind};
pub use refusal::refusal;
pub use rewrite::{edit_model, restore_model};
pub use scan::{BodyScanner, MAX_SEQUENCES, ScanError, ScanLimits, ScannedBody};
pub use usage::{ResponseKind, Usage, UsageScanner};
