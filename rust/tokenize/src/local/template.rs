//! Chat templates, rendered as `transformers` renders them (`render_jinja_template`) with what vLLM hands to it.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};
use warmroute_core::tokens::TokenizeError;

use super::clock::strftime_now;
use super::content_format::{ContentFormat, detect};
use super::python::{JsonStyle, write_json, write_str};
use crate::json::{Json, Object, bad_request};
use crate::request::{Chat, Ending};

/// Instructions that one rendering may take: a conversation of ten thousand messages takes about one million, ten million take less than a second.
const FUEL: u64 = 10_000_000;

/// What is put at the end of a message that the engine is to write on; the prompt ends where it comes out.
const CONTINUE: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Longest text of a template's error that is passed on, in bytes.
const MAX_ERROR_BYTES: usize = 512;

/// The chat templates of a tokenizer.
#[derive(Debug)]
pub(crate) struct ChatTemplates {
    default: Option<ChatTemplate>,
    /// For requests with tools, where the tokenizer has one of its own for them.
    tool_use: Option<ChatTemplate>,
    /// Names and texts of special tokens, which templates see.
    special_tokens: Vec<(String, String)>,
}

/// One compiled template.
#[derive(Debug)]
struct ChatTemplate {
    environment: Environment<'static>,
    format: ContentFormat,
    source: Arc<str>,
}

impl ChatTemplates {
    /// # Errors
    /// When a template does not compile; the text says where in it.
    pub(crate) fn new(
        default: Option<&str>,
        tool_use: Option<&str>,
        special_tokens: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let compile = |source: Option<&str>| source.map(ChatTemplate::new).transpose();
        Ok(Self {
            default: compile(default)?,
            tool_use: compile(tool_use)?,
            special_tokens,
        })
    }

    /// The prompt of a conversation.
    ///
    /// # Errors
    /// When there is no template, or it refuses the conversation.
    pub(crate) fn render(&self, chat: &Chat, trust_request: bool) -> Result<String, TokenizeError> {
        let own = match &chat.own_template {
            Some(_) if !trust_request => {
                return Err(bad_request(
                    "the request brings a chat template of its own, which is not trusted",
                ));
            }
            Some(source) => Some(ChatTemplate::new(source).map_err(|fault| {
                bad_request(format!("the request's own chat template: {fault}"))
            })?),
            None => None,
        };
        let template = own
            .as_ref()
            .or(match &chat.tools {
                Some(_) => self.tool_use.as_ref(),
                None => None,
            })
            .or(self.default.as_ref())
            .ok_or_else(|| {
                crate::json::unsupported(
                    "the tokenizer has no chat template; name one in the configuration",
                )
            })?;
        template.render(chat, &self.special_tokens)
    }
}

impl ChatTemplate {
    fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| error.to_string())?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_debug(false);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(|out, _state, value| {
            write_str(out, value).map_err(|_| Error::new(ErrorKind::WriteFailure, "out of memory"))
        });
        environment.add_filter("tojson", tojson);
        environment.add_filter("string", to_text);
        environment.add_test("sequence", is_sequence);
        environment.add_test("iterable", is_iterable);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: String| strftime_now(&format));
        environment
            .add_template_owned("chat template", without_generation_tags(source))
            .map_err(|error| describe(&error))?;
        Ok(Self {
            environment,
            format: detect(source),
            source: source.into(),
        })
    }

    fn render(
        &self,
        chat: &Chat,
        special_tokens: &[(String, String)],
    ) -> Result<String, TokenizeError> {
        let mut messages = chat.conversation(self.format)?;
        let continued = if chat.ending == Ending::FinalMessage {
            Some(tag_final_message(&mut messages, &self.source).map_err(bad_request)?)
        } else {
            None
        };
        let mut variables: Vec<(String, Value)> = special_tokens
            .iter()
            .map(|(name, text)| (name.clone(), Value::from(text)))
            .collect();
        variables.extend(
            chat.variables
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into())),
        );
        let list = |items: &Vec<Json>| Value::from(Json::List(items.clone()));
        let documents = chat.documents.clone().unwrap_or_default();
        variables.extend([
            (
                "messages".to_owned(),
                messages
                    .into_iter()
                    .map(Json::Object)
                    .map(Value::from)
                    .collect(),
            ),
            (
                "tools".to_owned(),
                chat.tools.as_ref().map_or_else(|| Value::from(()), list),
            ),
            ("documents".to_owned(), documents.into()),
            (
                "add_generation_prompt".to_owned(),
                (chat.ending == Ending::GenerationPrompt).into(),
            ),
        ]);
        let mut rendered = self
            .environment
            .get_template("chat template")
            .and_then(|template| template.render(Value::from_pairs(variables)))
            .map_err(|error| {
                bad_request(format!("the chat template refuses: {}", describe(&error)))
            })?;
        if let Some(continued) = continued {
            cut_at_tag(&mut rendered, &continued).map_err(bad_request)?;
        }
        Ok(rendered)
    }
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    if text.len() > MAX_ERROR_BYTES {
        let end = (0..=MAX_ERROR_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

/// The tags that mark what an assistant wrote, for training, have no part in a prompt.
fn without_generation_tags(source: &str) -> String {
    let mut written = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else {
            break;
        };
        let tag = &rest[open..open + length];
        let word = tag[2..].trim_matches(['-', '+']).trim();
        written.push_str(&rest[..open]);
        match word {
            "generation" => written.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => written.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => written.push_str(tag),
        }
        rest = &rest[open + length..];
    }
    written.push_str(rest);
    written
}

/// Marks the end of the last message's text, which is returned.
fn tag_final_message(messages: &mut [Object], source: &str) -> Result<String, String> {
    const FAULT: &str =
        "continue_final_message is set but the last message has no text to continue";
    let content = messages
        .last_mut()
        .and_then(|message| message.get_mut("content"))
        .ok_or(FAULT)?;
    if !source.contains("content") {
        return Err(
            "continue_final_message is set but the chat template reads no content".to_owned(),
        );
    }
    let text = match content {
        Json::Text(text) => text,
        Json::List(parts) => parts
            .iter_mut()
            .rev()
            .find_map(|part| match part {
                Json::Object(fields) => match fields.get_mut("text") {
                    Some(Json::Text(text)) => Some(text),
                    _ => None,
                },
                _ => None,
            })
            .ok_or(FAULT)?,
        _ => return Err(FAULT.to_owned()),
    };
    let continued = text.clone();
    text.push_str(CONTINUE);
    Ok(continued)
}

fn cut_at_tag(rendered: &mut String, continued: &str) -> Result<(), String> {
    let tag = CONTINUE.trim_end();
    let at = rendered
        .rfind(tag)
        .filter(|_| rendered.contains(continued.trim()))
        .ok_or("continue_final_message is set but the chat template leaves the last message out")?;
    let kept = rendered[at..].starts_with(CONTINUE);
    rendered.truncate(at);
    if !kept {
        // The template trimmed the message, so its own trailing space goes as well.
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let mut text = String::new();
    // A string takes everything.
    let _infallible = write_str(&mut text, message);
    Err(Error::new(ErrorKind::InvalidOperation, text))
}

fn to_text(value: &Value) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _infallible = write_str(&mut text, value);
    text
}

/// What has a length and items in Python.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined
    )
}

/// What can be looped over in Python.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// `json.dumps` as `transformers` gives it to templates.
#[expect(clippy::needless_pass_by_value, reason = "the signature of filters")]
fn tojson(value: &Value, positional: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut style = JsonStyle::default();
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let argument = |name: &'static str| -> Result<Option<Value>, Error> {
        let at = names.iter().position(|known| *known == name);
        let given: Option<Value> = kwargs.get(name)?;
        Ok(given.or_else(|| at.and_then(|at| positional.get(at).cloned())))
    };
    style.ensure_ascii = argument("ensure_ascii")?.is_some_and(|value| value.is_true());
    style.sort_keys = argument("sort_keys")?.is_some_and(|value| value.is_true());
    if let Some(indent) = argument("indent")?.filter(|value| !value.is_none()) {
        style.indent = Some(match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(width)) if width <= 64 => " ".repeat(width),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "tojson: no such indent",
                ));
            }
        });
        ",".clone_into(&mut style.item_separator);
    }
    if let Some(separators) = argument("separators")?.filter(|value| !value.is_none()) {
        let separator = |index| -> Result<String, Error> {
            Ok(separators.get_item_by_index(index)?.to_string())
        };
        style.item_separator = separator(0)?;
        style.key_separator = separator(1)?;
    }
    kwargs.assert_all_used()?;
    let mut written = String::new();
    // A string takes everything.
    let _infallible = write_json(&mut written, value, &style, 0);
    Ok(Value::from(written))
}
