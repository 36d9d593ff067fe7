//! Tokenizers against what real engines and the Python libraries make of the same requests.

mod recorded;
mod remote;
mod server;
mod support;
mod templates;
