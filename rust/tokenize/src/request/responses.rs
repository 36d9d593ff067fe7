//! `OpenAI` responses as chat completions, converted the way vLLM converts them (`vllm/entrypoints/openai/responses/utils.py`).

use warmroute_core::tokens::TokenizeError;

use super::{Chat, Input};
use crate::json::{Json, Object, bad_request, object, unsupported};

pub(super) fn read(body: &Object) -> Result<Input, TokenizeError> {
    for key in ["previous_response_id", "conversation", "prompt"] {
        if matches!(body.get(key), Some(value) if *value != Json::Null) {
            return Err(unsupported(format!(
                "a response with {key} continues what only the engine keeps"
            )));
        }
    }
    let mut messages = Vec::new();
    if let Some(Json::Text(text)) = body.get("instructions")
        && !text.is_empty()
    {
        messages.push(message("system", Json::text(text)));
    }
    let mut continues = false;
    match body.get("input") {
        Some(text @ Json::Text(_)) => messages.push(message("user", text.clone())),
        Some(Json::List(items)) => {
            for item in items {
                convert_item(item, &mut messages)?;
            }
            continues = items.last().is_some_and(is_partial);
        }
        _ => return Err(bad_request("the request has no input")),
    }
    let mut chat = Object::new();
    for key in ["model", "chat_template_kwargs"] {
        if let Some(value) = body.get(key) {
            chat.insert(key.to_owned(), value.clone());
        }
    }
    chat.insert("messages".to_owned(), Json::List(messages));
    if let Some(effort) = body
        .get("reasoning")
        .and_then(|reasoning| reasoning.get("effort"))
    {
        chat.insert("reasoning_effort".to_owned(), effort.clone());
    }
    if continues {
        chat.insert("continue_final_message".to_owned(), Json::Bool(true));
        chat.insert("add_generation_prompt".to_owned(), Json::Bool(false));
    }
    if let Some(Json::List(tools)) = body.get("tools") {
        let functions: Vec<Json> = tools.iter().filter_map(tool).collect();
        if !tools.is_empty() {
            chat.insert("tools".to_owned(), Json::List(functions));
        }
    }
    let mut chat = Chat::from_body(chat)?;
    chat.arguments_first = false;
    Ok(Input::Chat(Box::new(chat)))
}

fn message(role: &str, content: Json) -> Json {
    object([("role", Json::text(role)), ("content", content)])
}

fn text<'a>(item: &'a Json, key: &str) -> Option<&'a str> {
    item.get(key).and_then(Json::as_text)
}

/// Whether an item is one that the engine is to write on.
fn is_partial(item: &Json) -> bool {
    matches!(text(item, "type"), None | Some("message" | "reasoning"))
        && matches!(text(item, "status"), Some("in_progress" | "incomplete"))
}

fn convert_item(item: &Json, messages: &mut Vec<Json>) -> Result<(), TokenizeError> {
    match text(item, "type") {
        Some("function_call") => {
            let field = |key: &str| item.get(key).cloned().unwrap_or_default();
            let function = object([("name", field("name")), ("arguments", field("arguments"))]);
            let call = object([
                ("id", field("call_id")),
                ("function", function),
                ("type", Json::text("function")),
            ]);
            let calls = assistant(messages, |_| true)
                .entry("tool_calls".to_owned())
                .or_insert_with(|| Json::List(Vec::new()));
            if let Json::List(calls) = calls {
                calls.push(call);
            }
        }
        Some("function_call_output") => messages.push(object([
            ("role", Json::text("tool")),
            ("content", item.get("output").cloned().unwrap_or_default()),
            (
                "tool_call_id",
                item.get("call_id").cloned().unwrap_or_default(),
            ),
        ])),
        Some("reasoning") => {
            if item.get("encrypted_content").is_some() {
                return Err(bad_request("encrypted reasoning cannot be read"));
            }
            let reasoning = first_text(item.get("content"))
                .or_else(|| first_text(item.get("summary")))
                .unwrap_or_default();
            assistant(messages, |last| !last.contains_key("reasoning"))
                .insert("reasoning".to_owned(), Json::text(reasoning));
        }
        None | Some("message") if text(item, "role") == Some("assistant") => {
            let content = first_text(item.get("content")).unwrap_or_default();
            assistant(messages, |last| !last.contains_key("content"))
                .insert("content".to_owned(), Json::text(content));
        }
        None | Some("message") => messages.push(item.clone()),
        Some(other) => {
            return Err(unsupported(format!(
                "an input item of type {other:?} is not read"
            )));
        }
    }
    Ok(())
}

/// The last message where it is the assistant's and may take more, else a new one.
fn assistant(messages: &mut Vec<Json>, takes: impl Fn(&Object) -> bool) -> &mut Object {
    let open = match messages.last() {
        Some(Json::Object(last)) => {
            last.get("role").and_then(Json::as_text) == Some("assistant") && takes(last)
        }
        _ => false,
    };
    if !open {
        messages.push(object([("role", Json::text("assistant"))]));
    }
    match messages.last_mut() {
        Some(Json::Object(last)) => last,
        _ => unreachable!("the last message is the assistant's, pushed above"),
    }
}

fn first_text(content: Option<&Json>) -> Option<&str> {
    match content? {
        Json::Text(text) => Some(text),
        Json::List(parts) => match parts.first()? {
            Json::Text(text) => Some(text),
            part => Some(text(part, "text").unwrap_or_default()),
        },
        _ => None,
    }
}

/// A function in the shape of chat completions; other tools are not shown to templates.
fn tool(tool: &Json) -> Option<Json> {
    if text(tool, "type") != Some("function") {
        return None;
    }
    if tool.get("function").is_some() {
        return Some(tool.clone());
    }
    let mut function = tool.as_object()?.clone();
    function.shift_remove("type");
    Some(object([
        ("type", Json::text("function")),
        ("function", Json::Object(function)),
    ]))
}
