//! Opens the tokenizers that a configuration asks for.

use std::sync::Arc;

use warmroute_core::plugin::TokenizerSettings as Wanted;
use warmroute_core::tokens::Tokenizer;
use warmroute_tokenize::TokenizerSettings;

/// As [`warmroute_core::plugin::OpenTokenizer`].
pub(crate) fn open(wanted: &Wanted) -> Result<Arc<dyn Tokenizer>, Box<str>> {
    let settings = match wanted {
        Wanted::TokenIds => return Ok(Arc::new(warmroute_tokenize::TokenIds)),
        Wanted::Local {
            path,
            chat_template,
            trust_request_template,
            cache_bytes,
        } => TokenizerSettings::Local {
            path: path.to_string().into(),
            chat_template: chat_template.as_ref().map(|file| file.to_string().into()),
            trust_request_template: *trust_request_template,
            cache_bytes: *cache_bytes,
        },
        Wanted::Remote {
            url,
            model,
            timeout,
            media_timeout,
        } => TokenizerSettings::Remote {
            url: url.to_string(),
            model_name: model.as_ref().map(ToString::to_string),
            timeout: *timeout,
            media_timeout: *media_timeout,
        },
    };
    warmroute_tokenize::open(&settings).map_err(|error| error.to_string().into())
}
