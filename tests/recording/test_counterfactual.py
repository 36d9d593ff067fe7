"""Recorded decisions asked again: the same policy chooses the same, another one where it must."""

import io
import json
from functools import partial

import pytest
from rich.console import Console

from policies import REFERENCE, loaded, policy
from warmroute import _core
from warmroute.recording import RecordingError, as_trace, compare, read_recording, report

from .support import Recorder, decisions

PODS = 4


@pytest.fixture
def recorder(pb):
    return partial(Recorder, pb)


def traffic(recorder: Recorder, requests: int = 300) -> None:
    """Prompts of a few groups, a dozen at a time, while the pods' queues change."""
    open_exchanges = []
    for number in range(requests):
        if number % 10 == 0:
            for index in range(PODS):
                recorder.pod(index, waiting=(number // 10 + index * 3) % 7, kv_usage=(number // 10 * 5 + index * 13) % 10 / 20, gpu="ab"[index % 2])
        group = f"group {number * 7 % 12} " + "words that all of it share " * 60
        open_exchanges.append(recorder.begin(f"{group} {number}"))
        if len(open_exchanges) > 12:
            recorder.end(open_exchanges.pop(number % 12), usage=number % 30 + 1)
    for exchange in open_exchanges:
        recorder.end(exchange, usage=7)


@pytest.mark.parametrize("own", ["marginal-latency", "reference"])
def test_the_same_policy_chooses_as_it_did(recorder, tmp_path, own):
    configured = policy({"type": "marginal-latency-scorer", "weight": 1}) if own == "marginal-latency" else loaded(REFERENCE)
    live = recorder(configured)
    traffic(live)
    recording = read_recording(live.write(tmp_path / "recorded.jsonl"))
    queue = policy({"type": "queue-scorer", "weight": 1})
    same, other = compare(recording, {"same": configured, "queue": queue})
    assert same.decisions == other.decisions == 300
    assert same.share <= 0.01, same
    assert other.share > 0.2, other
    assert other.chosen.uncached_tokens > same.chosen.uncached_tokens
    assert same.recorded_picks.total() == 300
    assert len(same.recorded_picks) > 1


def test_labels_and_chance_are_told_apart(recorder, tmp_path):
    live = recorder(policy({"type": "queue-scorer", "weight": 1}))
    for index in range(PODS):
        live.pod(index, gpu="ab"[index % 2])
    for number in range(80):
        live.end(live.begin(f"prompt {number}"))
    recording = read_recording(live.write(tmp_path / "recorded.jsonl"))
    selector = {"type": "label-selector-filter", "parameters": {"matchLabels": {"gpu": "a"}}, "weight": None}
    none = {"type": "label-selector-filter", "parameters": {"matchLabels": {"gpu": "c"}}, "weight": None}
    queue = {"type": "queue-scorer", "weight": 1}
    same, half, nobody = compare(recording, {"same": policy(queue), "half": policy(selector, queue), "nobody": policy(none, queue)})
    assert same.differ == 0
    assert same.by_chance > 20
    assert {index % 2 for index in half.picks} == {0}
    assert half.differ > 20
    assert nobody.refused == nobody.differ == 80


def test_the_report_names_policies_endpoints_and_what_cannot_be_known(recorder, tmp_path):
    live = recorder(policy({"type": "queue-scorer", "weight": 1}), sample=0.5)
    traffic(live, 60)
    path = live.write(tmp_path / "recorded.jsonl", policy="plugins: [queue-scorer]")
    console = Console(file=io.StringIO(), width=160)
    sticky = policy({"type": "session-affinity-scorer", "weight": 1}, {"type": "prefix-cache-scorer", "weight": 1})
    results = report(path, {"queue": policy({"type": "queue-scorer", "weight": 1}), "sticky": sticky}, console)
    text = console.file.getvalue()
    assert f"{results[0].decisions} decisions, 0.5 of all" in text
    assert 15 <= results[0].decisions <= 45
    for expected in ("pod-0", "recorded", "queue", "sticky: session-affinity-scorer goes by request headers", "matched no prefixes"):
        assert expected in text, text
    assert results[0].warnings == ()


def test_a_recording_is_a_trace_in_the_order_of_arrival(recorder, tmp_path):
    live = recorder(loaded(REFERENCE))
    traffic(live, 40)
    path = live.write(tmp_path / "recorded.jsonl", policy=REFERENCE)
    # As it stands it is one already, for readers that sort.
    assert _core.Trace.read(path.read_text(), "recorded").requests == 40
    text = path.read_text().splitlines()
    # Lines come as exchanges end; blocks as long as the engines', so that some lines have others.
    turned = [text[0], *reversed(text[1:])]
    broken = json.loads(turned[1])
    broken["unit_tokens"], broken["output_length"] = 16, None
    turned[1] = json.dumps(broken)
    path.write_text("\n".join(turned) + "\n")
    trace = as_trace(path)
    requests = [json.loads(line) for line in trace.text.splitlines()]
    assert [request["timestamp"] for request in requests] == sorted(request["timestamp"] for request in requests)
    assert trace.requests == len(requests) == 40
    assert trace.replicas == PODS
    assert json.loads(trace.policy) == json.loads(loaded(REFERENCE))
    assert _core.Trace.read(trace.text, "recorded").requests == 40
    for request in requests:
        assert request["output_length"] > 0
        assert len(request["hash_ids"]) == -(-request["input_length"] // request["unit_tokens"])
    assert len({request["unit_tokens"] for request in requests}) == 1
    assert any("1 of 40 prompts were recorded in other blocks" in note for note in trace.notes)
    assert any("the answers to 1 of 40 requests were not read" in note for note in trace.notes)
    known = {line["timestamp"]: line["hash_ids"] for line in decisions(path)}
    assert all(request["hash_ids"] == known[request["timestamp"]] for request in requests[:-1])


def rewritten(path, *changes):
    """The file with the first decisions changed."""
    text = [json.loads(line) for line in path.read_text().splitlines()]
    for line, change in zip((line for line in text if "candidates" in line), changes, strict=False):
        line.update(change)
    path.write_text("".join(json.dumps(line) + "\n" for line in text))
    return path


def test_what_no_model_answered_is_not_simulated(recorder, tmp_path):
    live = recorder(loaded(REFERENCE))
    traffic(live, 40)
    changes = ({"status": 404}, {"status": 422}, {"status": 429}, {"status": 503}, {"input_length": 0, "hash_ids": []})
    trace = as_trace(rewritten(live.write(tmp_path / "recorded.jsonl", policy=REFERENCE), *changes))
    assert trace.requests == 37
    assert "2 requests that a model server refused (status 4xx) are not simulated." in trace.notes
    assert "1 requests without a prompt, such as for the list of models, are not simulated." in trace.notes


@pytest.mark.parametrize(
    ("learnt", "lengths", "note"),
    [
        # Of a request that allowed 10 tokens, one that allowed 16, and one that told no limit.
        (25.0, [10, 16, 25], "metrics pages said that answers are, 25 tokens"),
        (100.0, [10, 16, 16], "as long as its client allowed"),
    ],
)
def test_answers_that_were_not_read_are_as_long_as_was_learnt(recorder, tmp_path, learnt, lengths, note):
    live = recorder(loaded(REFERENCE))
    live.pod(0)
    for number in range(40):
        live.end(live.begin(f"prompt {number}"))
    path = live.write(tmp_path / "recorded.jsonl", policy=REFERENCE)
    curve = decisions(path)[0]["curve"] | {"output_tokens": learnt}
    limits = [10, 16, None, *([16] * 37)]
    trace = as_trace(rewritten(path, *({"curve": curve, "max_tokens": limit} for limit in limits)))
    assert [json.loads(line)["output_length"] for line in trace.text.splitlines()][:3] == lengths
    assert any(note in told for told in trace.notes), trace.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"timestamp": 0}\n', ":1: it is no recording"),
        ('{"warmroute_recording": 7}\n', "version 7 of the format"),
        ('{"warmroute_recording": 1}\n', "the header is not complete: 'started'"),
        ('{"warmroute_recording": 1, "started": 0, "sample": 1, "policy": ""}\nnonsense\n', ":2: no JSON"),
        ('{"warmroute_recording": 1, "started": 0, "sample": 1, "policy": ""}\n', "there is no decision in it"),
        ('{"warmroute_recording": 1, "sta', "the first line has no end"),
        ('{"warmroute_recording": 1, "started": 0, "sample": 1, "policy": ""}\n' * 2, ":2: another recording begins here"),
        (
            '{"warmroute_recording": 1, "started": 0, "sample": 1, "policy": ""}\n{"candid{"warmroute_recording":1}\n',
            ":2: another recording begins here",
        ),
        ('{"warmroute_recording": 1, "started": 0, "sample": 1, "policy": ""}\n{"policy": ""}\n', ":2: a configuration without its time"),
    ],
)
def test_what_is_no_recording_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "recorded.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError, match=message):
        report(path, {}, Console(file=io.StringIO()))
