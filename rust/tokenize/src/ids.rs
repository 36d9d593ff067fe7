//! No tokenizer: requests whose prompts are token ids already need none.

use warmroute_core::tokens::{TokenRequest, TokenSequence, TokenizeError, Tokenizer};

use crate::json::unsupported;
use crate::request::{self, Input, Prompt};

/// Reads prompts that are token ids; everything else is [`TokenizeError::Unsupported`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenIds;

impl Tokenizer for TokenIds {
    fn tokenize(&self, request: &TokenRequest<'_>) -> Result<Vec<TokenSequence>, TokenizeError> {
        match request::read(request.dialect, request.body)? {
            Input::Tokens(sequences) => Ok(sequences),
            Input::Prompts(prompts) => {
                let (truncation, list) = (prompts.truncation, prompts.list);
                let sequences = list.into_iter().map(|prompt| match prompt {
                    Prompt::Tokens(mut tokens) => {
                        truncation.apply(&mut tokens, 0);
                        Ok(TokenSequence {
                            tokens,
                            ..TokenSequence::default()
                        })
                    }
                    Prompt::Text(_) => Err(no_tokenizer()),
                });
                sequences.collect()
            }
            Input::Chat(_) => Err(no_tokenizer()),
        }
    }

    fn only_reads_ids(&self) -> bool {
        true
    }
}

fn no_tokenizer() -> TokenizeError {
    unsupported("there is no tokenizer, so only token ids are read")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use warmroute_core::body::Dialect;

    use super::*;

    #[test]
    fn ids_are_taken_as_they_are_and_nothing_else() {
        let read = |dialect, body: &'static str| {
            let body = [Bytes::from(body)];
            let request = TokenRequest {
                dialect,
                body: &body,
                target_model: "m",
            };
            let sequences = TokenIds.tokenize(&request);
            sequences.map(|all| all.into_iter().map(|one| one.tokens).collect::<Vec<_>>())
        };
        let cases = [
            (
                Dialect::OpenAiCompletions,
                r#"{"prompt":[1,2,3]}"#,
                vec![vec![1, 2, 3]],
            ),
            (
                Dialect::OpenAiCompletions,
                r#"{"prompt":[[1,2],[3]],"truncate_prompt_tokens":1}"#,
                vec![vec![2], vec![3]],
            ),
            (
                Dialect::OpenAiEmbeddings,
                r#"{"input":[4,5]}"#,
                vec![vec![4, 5]],
            ),
            (Dialect::VllmGenerate, r#"{"token_ids":[6]}"#, vec![vec![6]]),
            (
                Dialect::SglangGenerate,
                r#"{"input_ids":[[7],[8]]}"#,
                vec![vec![7], vec![8]],
            ),
        ];
        for (dialect, body, expected) in cases {
            assert_eq!(read(dialect, body), Ok(expected), "{body}");
        }
        for (dialect, body) in [
            (Dialect::OpenAiCompletions, r#"{"prompt":"text"}"#),
            (Dialect::OpenAiCompletions, r#"{"prompt":[[1],"text"]}"#),
            (
                Dialect::OpenAiChat,
                r#"{"messages":[{"role":"user","content":"text"}]}"#,
            ),
        ] {
            let refused = read(dialect, body).expect_err(body);
            assert_eq!(refused.reason(), "unsupported", "{body}");
        }
    }
}
