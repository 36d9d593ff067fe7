//! Prompts as the engine's tokens: in this process from the model's files ([`local`]).
#![forbid(unsafe_code)]

mod error;
mod features;
mod json;
pub mod local;
mod request;

pub use error::OpenError;
