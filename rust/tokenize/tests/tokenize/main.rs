//! Tokenizers against what real engines and the Python libraries make of the same requests.

mod folders;
mod recorded;
mod remote;
mod requests;
mod server;
mod support;
mod templates;
