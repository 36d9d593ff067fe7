//! Anthropic messages as chat completions, converted the way vLLM converts them (`vllm/entrypoints/anthropic/serving.py`).

use warmroute_core::tokens::TokenizeError;

use super::{Chat, Input};
use crate::json::{Json, Object, bad_request, object};

pub(super) fn read(body: &Object) -> Result<Input, TokenizeError> {
    let Some(Json::List(messages)) = body.get("messages") else {
        return Err(bad_request("the request has no list of messages"));
    };
    let mut converted = Vec::new();
    let system = system_text(body, messages);
    if !system.is_empty() {
        converted.push(object([
            ("role", Json::text("system")),
            ("content", Json::Text(system)),
        ]));
    }
    for message in messages {
        convert_message(message, &mut converted)?;
    }
    let mut chat = Object::new();
    for key in ["model", "chat_template_kwargs"] {
        if let Some(value) = body.get(key) {
            chat.insert(key.to_owned(), value.clone());
        }
    }
    chat.insert("messages".to_owned(), Json::List(converted));
    if let Some(effort) = body
        .get("output_config")
        .and_then(|config| config.get("effort"))
    {
        chat.insert("reasoning_effort".to_owned(), effort.clone());
    }
    if let Some(Json::List(tools)) = body.get("tools") {
        chat.insert(
            "tools".to_owned(),
            Json::List(tools.iter().map(tool).collect()),
        );
    }
    Ok(Input::Chat(Box::new(Chat::from_body(chat)?)))
}

/// The system prompt, and system messages among the others, without the attribution header of a coding client.
fn system_text(body: &Object, messages: &[Json]) -> String {
    let among = messages
        .iter()
        .filter(|message| is_system(message))
        .filter_map(|message| message.get("content"));
    let mut system = String::new();
    for content in body.get("system").into_iter().chain(among) {
        match content {
            Json::Text(text) => system.push_str(text),
            Json::List(blocks) => blocks
                .iter()
                .filter(|block| kind(block) == "text")
                .filter_map(|block| block.get("text").and_then(Json::as_text))
                .filter(|text| !text.starts_with("x-anthropic-billing-header"))
                .for_each(|text| system.push_str(text)),
            _ => {}
        }
    }
    system
}

fn is_system(message: &Json) -> bool {
    message.get("role").and_then(Json::as_text) == Some("system")
}

fn kind(block: &Json) -> &str {
    block
        .get("type")
        .and_then(Json::as_text)
        .unwrap_or_default()
}

fn convert_message(message: &Json, converted: &mut Vec<Json>) -> Result<(), TokenizeError> {
    if is_system(message) {
        return Ok(());
    }
    let role = message
        .get("role")
        .and_then(Json::as_text)
        .ok_or_else(|| bad_request("a message has no role"))?;
    let mut written = Object::new();
    written.insert("role".to_owned(), Json::text(role));
    match message.get("content") {
        Some(text @ Json::Text(_)) => {
            written.insert("content".to_owned(), text.clone());
        }
        Some(Json::List(blocks)) => convert_blocks(blocks, role, &mut written, converted),
        _ => return Err(bad_request("a message has no content")),
    }
    if role != "user" || written.contains_key("content") {
        converted.push(Json::Object(written));
    }
    Ok(())
}

fn convert_blocks(blocks: &[Json], role: &str, written: &mut Object, converted: &mut Vec<Json>) {
    let mut parts = Vec::new();
    let mut calls = Vec::new();
    let mut reasoning: Option<String> = None;
    for block in blocks {
        match kind(block) {
            "text" => {
                if let Some(text) = block.get("text").filter(|text| text.as_text() != Some("")) {
                    parts.push(object([
                        ("type", Json::text("text")),
                        ("text", text.clone()),
                    ]));
                }
            }
            "image" => {
                if let Some(source) = block.get("source") {
                    parts.push(image(source));
                }
            }
            "thinking" => {
                if let Some(text) = block.get("thinking").and_then(Json::as_text) {
                    reasoning.get_or_insert_default().push_str(text);
                }
            }
            "tool_use" => calls.push(call(block)),
            "tool_result" if role == "user" => tool_result(block, converted),
            "tool_result" => {
                let text = block
                    .get("content")
                    .and_then(Json::as_text)
                    .unwrap_or_default();
                let text = Json::Text(format!("Tool result: {text}"));
                parts.push(object([("type", Json::text("text")), ("text", text)]));
            }
            _ => {}
        }
    }
    if let Some(reasoning) = reasoning {
        written.insert("reasoning".to_owned(), Json::Text(reasoning));
    }
    if !calls.is_empty() {
        written.insert("tool_calls".to_owned(), Json::List(calls));
    }
    let content = match parts.as_slice() {
        [] => return,
        [one] if kind(one) == "text" => one.get("text").cloned().unwrap_or_default(),
        _ => Json::List(parts),
    };
    written.insert("content".to_owned(), content);
}

fn image(source: &Json) -> Json {
    let field = |key: &str| source.get(key).and_then(Json::as_text);
    let url = match field("type") {
        Some("url") => field("url").unwrap_or_default().to_owned(),
        _ => format!(
            "data:{};base64,{}",
            field("media_type").unwrap_or("image/jpeg"),
            field("data").unwrap_or_default()
        ),
    };
    object([
        ("type", Json::text("image_url")),
        ("image_url", object([("url", Json::Text(url))])),
    ])
}

fn call(block: &Json) -> Json {
    let field = |key: &str| block.get(key).cloned().unwrap_or(Json::text(""));
    let input = block
        .get("input")
        .cloned()
        .unwrap_or_else(|| Json::Object(Object::new()));
    // The request of a renderer carries them as text; here they are read back from it.
    let arguments = serde_json::to_string(&input).unwrap_or_default();
    object([
        ("id", field("id")),
        ("type", Json::text("function")),
        (
            "function",
            object([
                ("name", field("name")),
                ("arguments", Json::Text(arguments)),
            ]),
        ),
    ])
}

fn tool_result(block: &Json, converted: &mut Vec<Json>) {
    let id = block.get("tool_use_id").cloned().unwrap_or(Json::text(""));
    let mut images = Vec::new();
    let mut references = Vec::new();
    let text = match block.get("content") {
        Some(Json::Text(text)) => text.clone(),
        Some(Json::List(items)) => {
            let mut texts = Vec::new();
            for item in items {
                match kind(item) {
                    "text" => texts.extend(item.get("text").and_then(Json::as_text)),
                    "image" => images.extend(item.get("source").map(image)),
                    "tool_reference" => {
                        let name = item.get("tool_name").or_else(|| item.get("name"));
                        references.extend(name.map(|name| {
                            object([
                                ("type", Json::text("tool_reference")),
                                ("name", name.clone()),
                            ])
                        }));
                    }
                    _ => {}
                }
            }
            texts.join("\n")
        }
        _ => String::new(),
    };
    converted.push(tool_message(id.clone(), Json::Text(text)));
    if !images.is_empty() {
        converted.push(object([
            ("role", Json::text("user")),
            ("content", Json::List(images)),
        ]));
    }
    if !references.is_empty() {
        converted.push(tool_message(id, Json::List(references)));
    }
}

fn tool_message(id: Json, content: Json) -> Json {
    object([
        ("role", Json::text("tool")),
        ("tool_call_id", id),
        ("content", content),
    ])
}

fn tool(tool: &Json) -> Json {
    let field = |key: &str| tool.get(key).cloned().unwrap_or_default();
    object([
        ("type", Json::text("function")),
        (
            "function",
            object([
                ("name", field("name")),
                ("description", field("description")),
                ("parameters", field("input_schema")),
                ("defer_loading", field("defer_loading")),
            ]),
        ),
    ])
}
