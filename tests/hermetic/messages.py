"""ProcessingRequests as Envoy sends them."""

import json
from types import ModuleType
from typing import Any


def headers(pb: ModuleType, *, end_of_stream: bool = False, **values: str) -> Any:
    request = pb.ProcessingRequest()
    request.request_headers.end_of_stream = end_of_stream
    for key, value in values.items():
        header = request.request_headers.headers.headers.add()
        header.key = key.replace("_", "-") if not key.startswith(":") else key
        header.raw_value = value.encode()
    request.request_headers.SetInParent()
    return request


def body(pb: ModuleType, content: bytes, *, end_of_stream: bool = True) -> Any:
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=content, end_of_stream=end_of_stream))


def response_headers(pb: ModuleType, *, end_of_stream: bool = False, **values: str) -> Any:
    request = pb.ProcessingRequest()
    request.response_headers.end_of_stream = end_of_stream
    for key, value in values.items():
        header = request.response_headers.headers.headers.add()
        header.key = key.replace("_", "-")
        header.raw_value = value.encode()
    return request


def response_body(pb: ModuleType, content: bytes, *, end_of_stream: bool) -> Any:
    return pb.ProcessingRequest(response_body=pb.HttpBody(body=content, end_of_stream=end_of_stream))


def with_subset(request: Any, *hint: str) -> Any:
    values = request.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields["x-gateway-destination-endpoint-subset"].list_value
    for entry in hint:
        values.values.add().string_value = entry
    values.SetInParent()
    return request


def completion(model: str, prompt: str = "test") -> bytes:
    return json.dumps({"max_tokens": 100, "model": model, "prompt": prompt, "temperature": 0}, separators=(",", ":")).encode()


def request(pb: ModuleType, model: str, target: str, content: bytes | None = None, *, chunks: int = 1) -> list[Any]:
    """The suite's standard request."""
    content = completion(model) if content is None else content
    first = headers(pb, hi="mom", x_request_id="test-request-id", x_llm_d_inference_objective=model, x_llm_d_model_name_rewrite=target)
    size = -(-len(content) // chunks)
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return [first, *(body(pb, part, end_of_stream=index == len(parts) - 1) for index, part in enumerate(parts))]
