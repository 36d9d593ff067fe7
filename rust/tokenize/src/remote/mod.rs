//! Prompts as tokens from the model server: its render endpoints, which tell of media as well, or its `/tokenize` where it has none.

mod answer;
mod circuit;
mod client;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

use answer::{read_chat, read_completions, read_tokenized};
use client::{Answer, Budget, Client};

use crate::error::OpenError;
use crate::json::{Json, Object, bad_request, unsupported};
use crate::request::{self, Chat, Input, Prompt, Prompts, Truncation};

const COMPLETIONS_RENDER: &str = "/v1/completions/render";
const CHAT_RENDER: &str = "/v1/chat/completions/render";
const TOKENIZE: &str = "/tokenize";

/// Fields of a chat request that `/tokenize` understands.
const TOKENIZE_CHAT_FIELDS: [&str; 8] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
];

/// A model server that is asked for tokens.
#[derive(Debug)]
pub struct RemoteTokenizer {
    client: Client,
    model_name: Option<String>,
    timeout: Duration,
    media_timeout: Duration,
    /// The server has no render endpoints: it is asked once.
    only_tokenize: AtomicBool,
}

impl RemoteTokenizer {
    /// Connects to nothing yet: the first request does.
    ///
    /// # Errors
    /// When the address is none.
    pub fn open(
        url: &str,
        model_name: Option<String>,
        timeout: Duration,
        media_timeout: Duration,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            client: Client::new(url)?,
            model_name,
            timeout,
            media_timeout,
            only_tokenize: AtomicBool::new(false),
        })
    }

    fn model<'a>(&'a self, request: &'a TokenRequest<'_>) -> Json {
        Json::text(self.model_name.as_deref().unwrap_or(request.target_model))
    }

    /// Asks a render endpoint; none where the server has no such thing.
    fn render<T>(
        &self,
        path: &str,
        body: &Object,
        budget: Budget,
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<Option<T>, TokenizeError> {
        if self.only_tokenize.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(answer) = self.ask(path, body, budget)? else {
            self.only_tokenize.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        read(&answer)
            .map(Some)
            .map_err(|fault| self.client.unavailable(path, &fault))
    }

    fn ask(
        &self,
        path: &str,
        body: &Object,
        budget: Budget,
    ) -> Result<Option<Vec<u8>>, TokenizeError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| bad_request(format!("the request cannot be written: {error}")))?;
        match self.client.post(path, &bytes, budget)? {
            Answer::Ok(answer) => Ok(Some(answer)),
            Answer::NoSuchPath => Ok(None),
            Answer::Refused(reason) => Err(bad_request(format!("POST {path}: {reason}"))),
        }
    }

    fn tokenize_endpoint(&self, body: &Object, budget: Budget) -> Result<Vec<u32>, TokenizeError> {
        let answer = self.ask(TOKENIZE, body, budget)?.ok_or_else(|| {
            self.client.unavailable(
                TOKENIZE,
                "the server has neither render endpoints nor this one",
            )
        })?;
        read_tokenized(&answer).map_err(|fault| self.client.unavailable(TOKENIZE, &fault))
    }

    fn prompts(&self, model: &Json, prompts: Prompts) -> Result<Vec<TokenSequence>, TokenizeError> {
        let budget = Budget::start(self.timeout);
        let count = prompts.list.len();
        let texts = prompts
            .list
            .iter()
            .any(|prompt| matches!(prompt, Prompt::Text(_)));
        if texts && prompts.body.contains_key("prompt") {
            let mut body = prompts.body.clone();
            body.insert("model".to_owned(), model.clone());
            let rendered = self.render(COMPLETIONS_RENDER, &body, budget, |answer| {
                read_completions(answer, count)
            })?;
            if let Some(sequences) = rendered {
                return Ok(sequences);
            }
        }
        let add_special_tokens = Json::Bool(prompts.add_special_tokens);
        prompts
            .list
            .into_iter()
            .map(|prompt| {
                let tokens = match prompt {
                    Prompt::Tokens(mut tokens) => {
                        prompts.truncation.apply(&mut tokens, 0);
                        tokens
                    }
                    Prompt::Text(_) if prompts.truncation != Truncation::default() => {
                        return Err(unsupported("/tokenize does not cut a prompt to length"));
                    }
                    Prompt::Text(text) => {
                        let mut body = Object::new();
                        body.insert("model".to_owned(), model.clone());
                        body.insert("prompt".to_owned(), Json::Text(text));
                        body.insert("add_special_tokens".to_owned(), add_special_tokens.clone());
                        self.tokenize_endpoint(&body, budget)?
                    }
                };
                Ok(TokenSequence {
                    tokens,
                    ..TokenSequence::default()
                })
            })
            .collect()
    }

    fn chat(&self, model: Json, chat: Chat) -> Result<Vec<TokenSequence>, TokenizeError> {
        let media = chat.has_media();
        let timeout = if media {
            self.media_timeout
        } else {
            self.timeout
        };
        let budget = Budget::start(timeout);
        let truncation = chat.truncation;
        let mut body = chat.body;
        body.insert("model".to_owned(), model.clone());
        let rendered = self.render(CHAT_RENDER, &body, budget, read_chat)?;
        if let Some(sequence) = rendered {
            return Ok(vec![sequence]);
        }
        if media {
            return Err(unsupported("/tokenize does not tell the hashes of media"));
        }
        if truncation != Truncation::default() {
            return Err(unsupported("/tokenize does not cut a prompt to length"));
        }
        let mut asked = Object::new();
        asked.insert("model".to_owned(), model);
        for key in TOKENIZE_CHAT_FIELDS {
            if let Some(value) = body.shift_remove(key) {
                asked.insert(key.to_owned(), value);
            }
        }
        Ok(vec![TokenSequence {
            tokens: self.tokenize_endpoint(&asked, budget)?,
            ..TokenSequence::default()
        }])
    }
}

impl Tokenizer for RemoteTokenizer {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        match request::read(request.dialect, request.body)? {
            Input::Tokens(sequences) => Ok(sequences),
            Input::Prompts(prompts) => self.prompts(&self.model(request), prompts),
            Input::Chat(chat) => self.chat(self.model(request), *chat),
        }
    }
}
