//! Tokenizers against what real engines and the Python libraries make of the same requests.

mod recorded;
mod support;
