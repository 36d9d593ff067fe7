"""Writes templates/expected.json: what `transformers` makes of conversations with the templates beside it.

Usage: make_templates.py (needs `transformers` and `jinja2`). Each case says what vLLM hands to the template: `conversation` and `tools` are
written out by the rules of vLLM's `vllm/renderers/chat_utils` where they differ from the request's own.
"""

import json
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

FOLDER = Path(__file__).parent / "templates"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'It\'s <the> "weather" é.',
        "parameters": {"type": "object", "properties": {"zip": {"type": "string"}, "city": {"type": "string"}}, "required": ["city"]},
    },
}
NESTED = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": None,
        "parameters": {
            "type": "object",
            "properties": {"b": {"type": ["string", "null"]}, "a": {"type": "object", "properties": {"c": {"type": "integer"}}}},
            "required": ["b"],
        },
    },
}
CLOCK = {"function": {"parameters": None, "strict": True, "name": "clock", "junk": 1}, "type": "function"}
CLOCK_SEEN = {"type": "function", "function": {"name": "clock", "description": None, "parameters": None, "strict": True}}
CALL = {"type": "function", "id": "abcdefgh1", "function": {"name": "weather", "arguments": '{"city": "Ulm", "days": 2.0, "ok": true, "z": null}'}}
CALL_SEEN = {"id": "abcdefgh1", "function": {"arguments": {"city": "Ulm", "days": 2.0, "ok": True, "z": None}, "name": "weather"}, "type": "function"}
BROKEN = {"type": "function", "id": "abcdefgh2", "function": {"name": "clock", "arguments": "{oops"}}
BROKEN_SEEN = {"id": "abcdefgh2", "function": {"arguments": {}, "name": "clock"}, "type": "function"}

USER = {"role": "user", "content": " What is the weather?  "}
SYSTEM = {"role": "system", "content": "Be brief."}
ASSISTANT = {"role": "assistant", "content": "It rains.\n "}
PLAIN = [USER, ASSISTANT, {"role": "user", "content": 'And now? "Really" <b>é</b>'}]
TOOLED = [
    SYSTEM,
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefgh1", "content": '{"rain": 0.5}'},
    ASSISTANT,
    {"role": "user", "content": "Thanks"},
]
TOOLED_SEEN = [
    SYSTEM,
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL_SEEN]},
    {"role": "tool", "content": '{"rain": 0.5}', "tool_call_id": "abcdefgh1"},
    ASSISTANT,
    {"role": "user", "content": "Thanks"},
]
PARTS = [
    {"role": "system", "content": [{"type": "text", "text": "x-anthropic-billing-header: a=1\nBe brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": ""}, "two"]},
]

# Name, template, request, what the template sees instead of the request's own fields.
CASES = [
    ("plain", "chatml-tools", {"messages": PLAIN}, {}),
    ("system", "chatml-tools", {"messages": [SYSTEM, *PLAIN]}, {}),
    ("no generation prompt", "chatml-tools", {"messages": PLAIN, "add_generation_prompt": False}, {}),
    ("no thinking", "chatml-tools", {"messages": PLAIN, "chat_template_kwargs": {"enable_thinking": False}}, {"kwargs": {"enable_thinking": False}}),
    (
        "no effort",
        "chatml-tools",
        {"messages": PLAIN, "reasoning_effort": "none"},
        {"kwargs": {"enable_thinking": False, "reasoning_effort": "none"}},
    ),
    ("tools", "chatml-tools", {"messages": TOOLED, "tools": [WEATHER, CLOCK]}, {"conversation": TOOLED_SEEN, "tools": [WEATHER, CLOCK_SEEN]}),
    (
        "two calls",
        "chatml-tools",
        {
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [CALL, BROKEN], "content": "Let me see."},
                {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
                {"role": "tool", "tool_call_id": "b", "content": "3"},
            ]
        },
        {
            "conversation": [
                USER,
                {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL_SEEN, BROKEN_SEEN]},
                {"role": "tool", "content": "1\n2"},
                {"role": "tool", "content": "3"},
            ]
        },
    ),
    (
        "empty calls",
        "chatml-tools",
        {"messages": [USER, {"role": "assistant", "content": "Yes.", "tool_calls": []}, USER]},
        {"conversation": [USER, {"role": "assistant", "content": "Yes."}, USER]},
    ),
    ("parts as text", "chatml-tools", {"messages": PARTS}, {"conversation": [SYSTEM, {"role": "user", "content": "one\ntwo"}]}),
    (
        "continued",
        "chatml-tools",
        {"messages": [USER, {"role": "assistant", "content": "It is "}], "add_generation_prompt": False, "continue_final_message": True},
        {},
    ),
    ("plain", "headers-tools", {"messages": PLAIN}, {}),
    (
        "date",
        "headers-tools",
        {"messages": [SYSTEM, *PLAIN], "chat_template_kwargs": {"date_string": "1 May 2026"}},
        {"kwargs": {"date_string": "1 May 2026"}},
    ),
    ("tools", "headers-tools", {"messages": TOOLED, "tools": [WEATHER, CLOCK]}, {"conversation": TOOLED_SEEN, "tools": [WEATHER, CLOCK_SEEN]}),
    ("tools without a user", "headers-tools", {"messages": [SYSTEM], "tools": [WEATHER]}, {}),
    (
        "continued and trimmed",
        "headers-tools",
        {"messages": [USER, {"role": "assistant", "content": "It is "}], "add_generation_prompt": False, "continue_final_message": True},
        {},
    ),
    ("plain", "inst", {"messages": PLAIN}, {}),
    ("system", "inst", {"messages": [SYSTEM, *PLAIN]}, {}),
    ("tools", "inst", {"messages": TOOLED, "tools": [WEATHER, CLOCK]}, {"conversation": TOOLED_SEEN, "tools": [WEATHER, CLOCK_SEEN]}),
    ("roles", "inst", {"messages": [ASSISTANT]}, {}),
    ("plain", "turns", {"messages": PLAIN}, {}),
    ("system", "turns", {"messages": [SYSTEM, *PLAIN]}, {}),
    (
        "strings as parts",
        "parts",
        {"messages": PLAIN},
        {"conversation": [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in PLAIN]},
    ),
    (
        "parts",
        "parts",
        {"messages": [*PARTS, {"role": "assistant", "content": None, "reasoning": "because"}, {"role": "user", "content": "x"}]},
        {
            "conversation": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": ""}, {"type": "text", "text": "two"}]},
                {"role": "assistant", "content": [], "reasoning": "because", "reasoning_content": "because"},
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
            ]
        },
    ),
    (
        "continued",
        "parts",
        {"messages": [USER, {"role": "assistant", "content": "It is "}], "add_generation_prompt": False, "continue_final_message": True},
        {
            "conversation": [
                {"role": "user", "content": [{"type": "text", "text": USER["content"]}]},
                {"role": "assistant", "content": [{"type": "text", "text": "It is "}]},
            ]
        },
    ),
    (
        "python",
        "python",
        {
            "messages": [{"role": "skip", "content": "no"}, {**USER, "name": "Ann"}, ASSISTANT, {"role": "user", "content": 'a "é" banana'}],
            "reasoning_effort": "high",
        },
        {"kwargs": {"reasoning_effort": "high", "enable_thinking": True}},
    ),
    (
        "idioms",
        "idioms",
        {
            "messages": [
                USER,
                USER,
                {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
                {"role": "user", "content": "<tool>1</tool>"},
                {"role": "assistant", "content": "no", "reasoning": "\nwhy\n"},
            ],
            "tools": [NESTED, CLOCK],
        },
        {
            "conversation": [
                USER,
                USER,
                {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"},
                {"role": "user", "content": "<tool>1</tool>"},
                {"role": "assistant", "content": "no", "reasoning": "\nwhy\n", "reasoning_content": "\nwhy\n"},
            ],
            "tools": [NESTED, CLOCK_SEEN],
        },
    ),
    ("idioms without tools", "idioms", {"messages": [ASSISTANT]}, {}),
    (
        "python with documents",
        "python",
        {"messages": PLAIN * 2, "documents": [{"title": "t", "text": "x"}]},
        {"documents": [{"title": "t", "text": "x"}]},
    ),
]


def main() -> None:
    """Renders each case."""
    expected = []
    for name, template, request, seen in CASES:
        generation = request.get("add_generation_prompt", True)
        try:
            rendered, _ = render_jinja_template(
                [json.loads(json.dumps(seen.get("conversation", request["messages"])))],
                tools=seen.get("tools", request.get("tools")),
                documents=seen.get("documents"),
                chat_template=(FOLDER / f"{template}.jinja").read_text(),
                continue_final_message=request.get("continue_final_message", False),
                add_generation_prompt=generation,
                **{**SPECIAL, **seen.get("kwargs", {})},
            )
            outcome = {"prompt": rendered[0]}
        except Exception as error:  # noqa: BLE001 - whatever the template raises is what is expected
            outcome = {"error": str(error)}
        expected.append({"name": name, "template": template, "request": json.dumps(request, ensure_ascii=False), **outcome})
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
