//! Conversations, read as vLLM reads them (`vllm/renderers/chat_utils` and the models of its chat completions API): what a chat template
//! sees of a request is not the request.

use warmroute_core::tokens::TokenizeError;

use super::{Input, Truncation, flag};
use crate::json::{Json, Object, bad_request, object};
use crate::local::ContentFormat;

/// A conversation.
#[derive(Debug)]
pub(crate) struct Chat {
    /// As in the request, or converted to the shape of chat completions.
    pub(crate) messages: Vec<Json>,
    /// As templates see them.
    pub(crate) tools: Option<Vec<Json>>,
    pub(crate) documents: Option<Json>,
    /// Further variables of the template.
    pub(crate) variables: Object,
    pub(crate) ending: Ending,
    pub(crate) add_special_tokens: bool,
    /// A chat template that the request brings.
    pub(crate) own_template: Option<String>,
    pub(crate) truncation: Truncation,
    /// Calls of tools have their arguments before their name, as validation leaves them; what is not validated keeps the name first.
    pub(super) arguments_first: bool,
    /// The body as a chat completions request, for a renderer.
    pub(crate) body: Object,
}

/// What the engine is to write on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The beginning of an answer.
    GenerationPrompt,
    /// The last message.
    FinalMessage,
    /// The end of the conversation as it is.
    Nothing,
}

/// What stands in a rendered prompt where a medium begins: from there on the tokens are the engine's own affair.
const MEDIUM: &str = "\u{f8ff}the first medium\u{f8ff}";

/// Text parts, by `type`.
const TEXT_PARTS: [&str; 5] = ["text", "input_text", "output_text", "refusal", "thinking"];

/// The attribution header of a coding client: another value in every request, so engines drop it.
const BILLING_HEADER: &str = "x-anthropic-billing-header";

pub(super) fn read(body: Object) -> Result<Input, TokenizeError> {
    Chat::from_body(body).map(|chat| Input::Chat(Box::new(chat)))
}

impl Chat {
    /// Reads a chat completions request.
    pub(super) fn from_body(body: Object) -> Result<Self, TokenizeError> {
        let messages = match body.get("messages") {
            Some(Json::List(messages)) => messages.clone(),
            _ => return Err(bad_request("the request has no list of messages")),
        };
        let tools = match body.get("tools") {
            None | Some(Json::Null) => None,
            Some(Json::List(tools)) => Some(tools.iter().map(tool).collect::<Result<_, _>>()?),
            Some(other) => {
                return Err(bad_request(format!(
                    "tools is {}, not a list",
                    other.kind()
                )));
            }
        };
        let mut variables = match body.get("chat_template_kwargs") {
            Some(Json::Object(variables)) => variables.clone(),
            _ => Object::new(),
        };
        let ending = match (
            flag(&body, "add_generation_prompt", true)?,
            flag(&body, "continue_final_message", false)?,
        ) {
            (true, true) => {
                return Err(bad_request(
                    "the request sets both add_generation_prompt and continue_final_message",
                ));
            }
            (true, false) => Ending::GenerationPrompt,
            (false, true) => Ending::FinalMessage,
            (false, false) => Ending::Nothing,
        };
        if let Some(effort @ Json::Text(name)) = body.get("reasoning_effort") {
            if !variables.contains_key("enable_thinking") {
                variables.insert("enable_thinking".to_owned(), Json::Bool(name != "none"));
            }
            variables.insert("reasoning_effort".to_owned(), effort.clone());
        }
        for taken in ["chat_template", "tokenize", "messages", "tools"] {
            variables.shift_remove(taken);
        }
        Ok(Self {
            messages,
            tools,
            documents: body
                .get("documents")
                .filter(|value| **value != Json::Null)
                .cloned(),
            variables,
            ending,
            add_special_tokens: flag(&body, "add_special_tokens", false)?,
            own_template: body
                .get("chat_template")
                .and_then(Json::as_text)
                .map(str::to_owned),
            truncation: Truncation::read(&body)?,
            arguments_first: true,
            body,
        })
    }

    /// The messages as a template sees them.
    pub(crate) fn conversation(&self, format: ContentFormat) -> Result<Vec<Object>, TokenizeError> {
        self.messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                conversation_message(message, format, self.arguments_first).map_err(|fault| {
                    bad_request(format!("message {index} of the conversation {fault}"))
                })
            })
            .collect()
    }

    /// Whether a part of any message is a medium.
    pub(crate) fn has_media(&self) -> bool {
        self.messages.iter().any(has_media_part)
    }
}

/// Cuts a rendered prompt where its first medium begins; none: it has no medium.
pub(crate) fn media_cut(rendered: &str) -> Option<&str> {
    rendered.find(MEDIUM).map(|at| &rendered[..at])
}

/// Whether a part of the message's content is a medium.
fn has_media_part(message: &Json) -> bool {
    message
        .get("content")
        .and_then(Json::as_list)
        .is_some_and(|parts| {
            parts
                .iter()
                .any(|part| matches!(read_part(part), Ok(Part::Medium)))
        })
}

/// A tool in the order of vLLM's model of it (`FunctionDefinition`), absent fields as null.
pub(super) fn tool(tool: &Json) -> Result<Json, TokenizeError> {
    let function = tool
        .get("function")
        .and_then(Json::as_object)
        .ok_or_else(|| bad_request("a tool has no function"))?;
    let field = |key: &str| function.get(key).cloned().unwrap_or_default();
    let mut definition = Object::new();
    for key in ["name", "description", "parameters"] {
        definition.insert(key.to_owned(), field(key));
    }
    let deferred = tool.get("defer_loading").cloned();
    for (key, value) in [
        ("strict", field("strict")),
        (
            "defer_loading",
            match field("defer_loading") {
                Json::Null => deferred.clone().unwrap_or_default(),
                own => own,
            },
        ),
    ] {
        if value != Json::Null {
            definition.insert(key.to_owned(), value);
        }
    }
    let mut written = Object::new();
    written.insert("type".to_owned(), Json::text("function"));
    written.insert("function".to_owned(), Json::Object(definition));
    if let Some(deferred) = deferred {
        written.insert("defer_loading".to_owned(), deferred);
    }
    Ok(Json::Object(written))
}

enum Part<'a> {
    Text(&'a str),
    /// A tool by its name, which the template expands.
    ToolReference(&'a str),
    Medium,
    /// A text part without its text.
    Nothing,
}

fn read_part(part: &Json) -> Result<Part<'_>, String> {
    match part {
        Json::Text(text) => Ok(Part::Text(text)),
        Json::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Json::as_text);
            match text("type") {
                Some(kind) if TEXT_PARTS.contains(&kind) => {
                    let key = match kind {
                        "refusal" | "thinking" => kind,
                        _ => "text",
                    };
                    Ok(text(key).map_or(Part::Nothing, Part::Text))
                }
                Some("tool_reference") => {
                    Ok(text("name").map_or(Part::Nothing, Part::ToolReference))
                }
                _ => Ok(Part::Medium),
            }
        }
        other => Err(format!(
            "has {} among the parts of its content",
            other.kind()
        )),
    }
}

fn conversation_message(
    message: &Json,
    format: ContentFormat,
    arguments_first: bool,
) -> Result<Object, String> {
    let fields = message
        .as_object()
        .ok_or_else(|| format!("is {}, not an object", message.kind()))?;
    let role = message
        .get("role")
        .and_then(Json::as_text)
        .ok_or("has no role")?;
    let content = match message.get("content") {
        None => content(&[], role, format)?,
        Some(text @ Json::Text(_)) => content(std::slice::from_ref(text), role, format)?,
        Some(Json::List(parts)) => content(parts, role, format)?,
        Some(other) => {
            return Err(format!("has a content that is {}", other.kind()));
        }
    };
    let mut written = Object::new();
    written.insert("role".to_owned(), Json::text(role));
    written.insert("content".to_owned(), content);
    match role {
        "assistant" => {
            if let Some(calls) = message.get("tool_calls") {
                let calls = calls.as_list().ok_or("has tool_calls that are no list")?;
                if !calls.is_empty() {
                    let calls = calls
                        .iter()
                        .map(|call| tool_call(call, arguments_first))
                        .collect::<Result<_, _>>()?;
                    written.insert("tool_calls".to_owned(), Json::List(calls));
                }
            }
            let reasoning = message
                .get("reasoning")
                .or_else(|| message.get("reasoning_content"));
            if let Some(reasoning) = reasoning {
                written.insert("reasoning".to_owned(), reasoning.clone());
                written.insert("reasoning_content".to_owned(), reasoning.clone());
            }
        }
        "tool" => {
            if let Some(id) = fields.get("tool_call_id") {
                written.insert("tool_call_id".to_owned(), id.clone());
            }
        }
        "developer" => {
            let tools = fields.get("tools").cloned().unwrap_or_default();
            written.insert("tools".to_owned(), tools);
        }
        _ => {}
    }
    if let Some(name @ Json::Text(_)) = fields.get("name") {
        written.insert("name".to_owned(), name.clone());
    }
    Ok(written)
}

/// The content of a message: texts joined, or a list of parts. Results of tools are joined in either case, as most templates expect.
fn content(parts: &[Json], role: &str, format: ContentFormat) -> Result<Json, String> {
    let mut texts: Vec<Json> = Vec::new();
    let mut structured = false;
    let mut medium = false;
    for part in parts {
        let text = match read_part(part)? {
            Part::Text(text) if role == "system" && text.starts_with(BILLING_HEADER) => {
                match text.split_once('\n') {
                    Some((_, rest)) if !rest.is_empty() => rest,
                    _ => continue,
                }
            }
            Part::Text(text) => text,
            Part::ToolReference(name) if format == ContentFormat::Parts => {
                structured = true;
                texts.push(object([
                    ("type", Json::text("tool_reference")),
                    ("name", Json::text(name)),
                ]));
                continue;
            }
            Part::ToolReference(name) => name,
            Part::Medium if format == ContentFormat::Parts => MEDIUM,
            Part::Medium => {
                medium = true;
                continue;
            }
            Part::Nothing => continue,
        };
        texts.push(match format {
            ContentFormat::Parts => {
                object([("type", Json::text("text")), ("text", Json::text(text))])
            }
            ContentFormat::Text if text.is_empty() => continue,
            ContentFormat::Text => Json::text(text),
        });
    }
    if format == ContentFormat::Parts && (role != "tool" || structured) {
        return Ok(Json::List(texts));
    }
    let joined: Vec<&str> = texts
        .iter()
        .filter_map(|text| {
            text.as_text()
                .or_else(|| text.get("text").and_then(Json::as_text))
        })
        .collect();
    let mut joined = joined.join("\n");
    if medium {
        // vLLM puts what stands for media in front of the text of their message.
        joined.insert_str(0, MEDIUM);
    }
    Ok(Json::Text(joined))
}

/// A call of a tool: in the order of `OpenAI`'s types, as vLLM's validation leaves it, with its arguments as an object.
fn tool_call(call: &Json, arguments_first: bool) -> Result<Json, String> {
    let function = call
        .get("function")
        .and_then(Json::as_object)
        .ok_or("has a call of a tool that is not of a function")?;
    let arguments = match function.get("arguments") {
        Some(Json::Text(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(other) => other.clone(),
        None => Json::Null,
    };
    let arguments = match arguments {
        object @ Json::Object(_) => object,
        _ => Json::Object(Object::new()),
    };
    let mut written = Object::new();
    if let Some(id) = call.get("id") {
        written.insert("id".to_owned(), id.clone());
    }
    let name = function.get("name").cloned().unwrap_or_default();
    let (arguments, name) = (("arguments", arguments), ("name", name));
    let function = if arguments_first {
        object([arguments, name])
    } else {
        object([name, arguments])
    };
    written.insert("function".to_owned(), function);
    written.insert("type".to_owned(), Json::text("function"));
    Ok(Json::Object(written))
}
