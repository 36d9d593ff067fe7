//! Prompts as the engine's tokens: in this process from the model's files ([`local`]), or asked of the model server ([`remote`]).
//!
//! [`open`] gives the engine its `Tokenizer`. Requests of every API that carries a prompt are read; what cannot be told without the
//! engine (media, state that it keeps) is an `Unsupported` error or a sequence that ends early, never a guess.
#![forbid(unsafe_code)]

mod error;
mod features;
mod ids;
mod json;
pub mod local;
pub mod remote;
mod request;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use warmroute_core::tokens::Tokenizer;

pub use error::OpenError;
pub use ids::TokenIds;
use local::LocalTokenizer;
use remote::RemoteTokenizer;

/// Bytes that the local tokenizer's cache may take where nothing else is said: about 15 million tokens.
pub const DEFAULT_CACHE_BYTES: usize = 64 << 20;

/// Address of the model server where nothing else is said (`endpoint-picker.md` §3.8).
pub const DEFAULT_URL: &str = "http://localhost:8000";

/// How long the model server is waited for, for a text and for media, where nothing else is said (`endpoint-picker.md` §3.8).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// See [`DEFAULT_TIMEOUT`].
pub const DEFAULT_MEDIA_TIMEOUT: Duration = Duration::from_secs(30);

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSettings {
    /// Files on this machine.
    Local {
        /// The folder of the model's `tokenizer.json`, or the file itself.
        path: PathBuf,
        /// A chat template instead of the tokenizer's own.
        chat_template: Option<PathBuf>,
        /// Whether a request may bring a chat template of its own (vLLM's `--trust-request-chat-template`).
        trust_request_template: bool,
        /// Bound of the cache in bytes; 0: none.
        cache_bytes: usize,
    },
    /// A model server, or a renderer of its kind.
    Remote {
        /// Its address, `http://` or `https://`.
        url: String,
        /// The model that it is asked for instead of the request's own.
        model_name: Option<String>,
        /// Bound of one request without media.
        timeout: Duration,
        /// Bound of one request with media.
        media_timeout: Duration,
    },
}

/// Opens a tokenizer. Reads files at most, never waits for a network.
///
/// # Errors
/// When a file or an address cannot be used; the text says which and what to do.
pub fn open(settings: &TokenizerSettings) -> Result<Arc<dyn Tokenizer>, OpenError> {
    match settings {
        TokenizerSettings::Local {
            path,
            chat_template,
            trust_request_template,
            cache_bytes,
        } => Ok(Arc::new(LocalTokenizer::open(
            path,
            chat_template.as_deref(),
            *trust_request_template,
            *cache_bytes,
        )?)),
        TokenizerSettings::Remote {
            url,
            model_name,
            timeout,
            media_timeout,
        } => Ok(Arc::new(RemoteTokenizer::open(
            url,
            model_name.clone(),
            *timeout,
            *media_timeout,
        )?)),
    }
}
