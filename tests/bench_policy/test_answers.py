"""What is read out of the bytes of a streamed answer, however they were cut on their way."""

import json

import pytest
from policy.answers import AnswerError, Segment, first_token, read_answer

HEAD = b"HTTP/1.1 200 OK\r\nX-Gateway-Destination-Endpoint-Served: 10.0.0.1:8000\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
WORDS = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in (" one", " two", " ten")]
USAGE = {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 32}}}


def event(document) -> bytes:
    return b"data: " + (document if isinstance(document, bytes) else json.dumps(document).encode()) + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def arrivals(*parts: bytes) -> list[Segment]:
    return [Segment(float(number), part) for number, part in enumerate(parts)]


def test_times_are_those_at_which_the_content_came():
    # The role alone is no content; two tokens share a chunk; the last one's chunk comes in two pieces.
    last = chunk(event(WORDS[2]))
    answer = read_answer(
        arrivals(
            HEAD,
            chunk(event(ROLE)),
            chunk(event(WORDS[0]) + event(WORDS[1])),
            last[:20],
            last[20:],
            chunk(event(USAGE) + event(b"[DONE]")) + b"0\r\n\r\n",
        )
    )
    assert (answer.first_token, answer.last_token, answer.events, answer.text) == (2.0, 4.0, 3, " one two ten")
    assert (answer.served, answer.prompt_tokens, answer.cached_tokens) == ("10.0.0.1:8000", 40, 32)


def test_answer_is_the_same_however_its_bytes_are_cut():
    whole = HEAD + b"".join(chunk(event(document)) for document in (*WORDS, USAGE, b"[DONE]")) + b"0\r\n\r\n"
    for size in (1, 7, 64, len(whole)):
        answer = read_answer(arrivals(*(whole[start : start + size] for start in range(0, len(whole), size))))
        assert (answer.text, answer.cached_tokens) == (" one two ten", 32)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nfull", "status 503"),
        (HEAD + chunk(event(WORDS[0])), "stream cut"),
        (HEAD + chunk(event({"error": {"message": "no"}})), "error in the stream"),
        (HEAD + chunk(event(USAGE) + event(b"[DONE]")), "no content"),
        (HEAD + chunk(event(WORDS[0]) + event(b"[DONE]")), "no usage"),
    ],
)
def test_what_is_no_complete_answer_is_an_error_of_its_kind(content, kind):
    with pytest.raises(AnswerError) as caught:
        read_answer(arrivals(content))
    assert caught.value.kind == kind


def test_answer_under_way_has_its_first_token():
    assert first_token(arrivals(HEAD[:30])) is None
    assert first_token(arrivals(HEAD, chunk(event(ROLE)))) is None
    assert first_token(arrivals(HEAD, chunk(event(ROLE)), chunk(event(WORDS[0])))) == 2.0
