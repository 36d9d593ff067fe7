"""A model server that tells what reached it, and streams at the pace of the test."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 20.0
EVENTS = 5
HEAD_LENGTH = 1234


class _Handler(BaseHTTPRequestHandler):
    upstream: "Upstream"
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.headers.get("upgrade"):
            self.tunnel()
        else:
            self.answer(b"")

    def tunnel(self) -> None:
        """Switch protocols and send each line back, until the client leaves."""
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.end_headers()
        while line := self.rfile.readline():
            self.wfile.write(line)
        self.close_connection = True

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(HEAD_LENGTH))
        self.end_headers()

    def do_POST(self) -> None:
        self.answer(self.body())

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def answer(self, body: bytes) -> None:
        try:
            document = json.loads(body)
        except ValueError:
            document = {}
        model = document.get("model", "") if isinstance(document, dict) else ""
        if isinstance(document, dict) and document.get("stream"):
            self.stream(model)
            return
        seen: dict[str, Any] = {
            "model": model,
            "method": self.command,
            "port": self.upstream.port,
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "usage": {"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17},
        }
        content = json.dumps(seen, separators=(",", ":")).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            if number and not self.upstream.more.acquire(timeout=PATIENCE):
                return
            self.event(b'{"model":"%s","choices":[{"index":%d,"text":"x"}]}' % (model.encode(), number))
        self.event(b'{"model":"%s","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":10,"total_tokens":17}}' % model.encode())
        self.event(b"[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data: bytes) -> None:
        event = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()


class Upstream:
    """Answers each request with what it saw of it; a streamed answer waits for `allow` before each event but the first."""

    def __init__(self) -> None:
        self.more = threading.Semaphore(0)
        handler = type("Handler", (_Handler,), {"upstream": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def allow(self) -> None:
        """Let one more event go."""
        self.more.release()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)
