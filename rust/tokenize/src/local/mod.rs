//! Prompts as tokens in this process: a Hugging Face tokenizer and the model's chat template, from files.

mod cache;
mod clock;
mod content_format;
mod cuts;
mod encoder;
mod files;
mod python;
mod template;

use std::path::Path;

use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

pub(crate) use content_format::ContentFormat;
use encoder::{Encoder, Specials};
use template::ChatTemplates;

use crate::error::OpenError;
use crate::json::unsupported;
use crate::request::{self, Chat, Input, Prompt, Prompts, Truncation, media_cut};

/// A tokenizer from files.
#[derive(Debug)]
pub struct LocalTokenizer {
    encoder: Encoder,
    templates: ChatTemplates,
    trust_request_template: bool,
}

impl LocalTokenizer {
    /// Reads `tokenizer.json` and what belongs to it from a folder, or the file by itself. Nothing is downloaded.
    ///
    /// `chat_template` replaces the tokenizer's own; `trust_request_template` lets a request bring its own (vLLM's flag of that name);
    /// `cache_bytes` bounds what is kept of prompts already tokenised, 0 keeps nothing.
    ///
    /// # Errors
    /// When a file is missing, cannot be read or is not what it should be.
    pub fn open(
        path: &Path,
        chat_template: Option<&Path>,
        trust_request_template: bool,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let files = files::read(path, chat_template)?;
        let templates = ChatTemplates::new(
            files.default_template.as_deref(),
            files.tool_template.as_deref(),
            files.special_tokens,
        )
        .map_err(|reason| OpenError::Invalid {
            path: files.template_path,
            reason: format!("its chat template does not compile: {reason}"),
        })?;
        Ok(Self {
            encoder: Encoder::new(files.tokenizer, &files.description, cache_bytes),
            templates,
            trust_request_template,
        })
    }

    /// The prompt that the chat template makes of a conversation, as text.
    ///
    /// # Errors
    /// As of [`Tokenizer::tokenize`]; also where the request is no conversation.
    pub fn render(&self, request: &TokenRequest<'_>) -> Result<String, TokenizeError> {
        match request::read(request.dialect, request.body)? {
            Input::Chat(chat) => self.templates.render(&chat, self.trust_request_template),
            Input::Tokens(_) | Input::Prompts(_) => {
                Err(unsupported("the request is not a conversation"))
            }
        }
    }

    fn tokenize_prompts(&self, prompts: Prompts) -> Result<Vec<TokenSequence>, TokenizeError> {
        let specials = if prompts.add_special_tokens {
            Specials::Both
        } else {
            Specials::None
        };
        prompts
            .list
            .into_iter()
            .map(|prompt| {
                let tokens = match prompt {
                    Prompt::Text(text) => {
                        self.encoder.encode(&text, specials, |tokens, reserved| {
                            prompts.truncation.apply(tokens, reserved);
                        })?
                    }
                    Prompt::Tokens(mut tokens) => {
                        prompts.truncation.apply(&mut tokens, 0);
                        tokens
                    }
                };
                Ok(TokenSequence {
                    tokens,
                    ..TokenSequence::default()
                })
            })
            .collect()
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<TokenSequence>, TokenizeError> {
        let rendered = self.templates.render(chat, self.trust_request_template)?;
        let (text, specials) = if chat.has_media() {
            if chat.truncation != Truncation::default() {
                return Err(unsupported(
                    "a prompt with media is cut by the engine alone",
                ));
            }
            let text = media_cut(&rendered)
                .ok_or_else(|| unsupported("the chat template leaves the place of a medium out"))?;
            // What follows the last cut may become other tokens together with the medium.
            (&text[..self.encoder.last_cut(text)], Specials::Before)
        } else {
            (rendered.as_str(), Specials::Both)
        };
        let truncated = specials == Specials::Before;
        let specials = if chat.add_special_tokens {
            specials
        } else {
            Specials::None
        };
        let tokens = self.encoder.encode(text, specials, |tokens, reserved| {
            chat.truncation.apply(tokens, reserved);
        })?;
        Ok(vec![TokenSequence {
            tokens,
            media: Vec::new(),
            truncated,
        }])
    }
}

impl Tokenizer for LocalTokenizer {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        match request::read(request.dialect, request.body)? {
            Input::Tokens(sequences) => Ok(sequences),
            Input::Prompts(prompts) => self.tokenize_prompts(prompts),
            Input::Chat(chat) => self.tokenize_chat(&chat),
        }
    }
}
