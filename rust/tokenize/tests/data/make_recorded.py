"""Writes vllm-0.32/tokens.json: the prompt tokens that a vLLM 0.32 server announced for the requests of requests.json.

Usage: make_recorded.py FOLDER, with the recorded `kv-events.jsonl` and answers of that server in it (see `shared/data/README.md`).
An event holds the tokens of whole blocks, those of the answer after those of the prompt, so each prompt is cut at the length its answer tells.
"""

import base64
import json
import sys
from pathlib import Path

import msgpack

# By the order of the requests: the events that continue one another, first those of the shared prefix.
EVENTS = {
    "completion-1.json": [0, 1],
    "completion-2.json": [0, 2],
    "completion-3.json": [0, 3],
    "completion-lora.json": [4, 5],
    "chat-stream.sse": [11],
}


def main(folder: Path) -> None:
    """Decodes the events and writes the tokens by the name of the answer."""
    events = []
    for line in (folder / "kv-events.jsonl").read_text().splitlines():
        _topic, sequence, payload = (base64.b64decode(frame) for frame in json.loads(line))
        assert int.from_bytes(sequence, "big") == len(events)
        events.append(msgpack.unpackb(payload)[1][0]["token_ids"])
    tokens = {}
    for name, numbers in EVENTS.items():
        text = (folder / name).read_text()
        length = int(text.split('"prompt_tokens":')[1].split(",")[0])
        announced = [token for number in numbers for token in events[number]]
        tokens[name] = {"prompt_tokens": length, "announced": announced[:length]}
    target = Path(__file__).parent / "vllm-0.32" / "tokens.json"
    target.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in tokens.items()) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
