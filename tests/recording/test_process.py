"""`warmroute epp --record-decisions`, both hosts: what is in the file, and what never is."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from epp.conftest import eventually
from warmroute.config.errors import UsageError
from warmroute.config.flags import parse_flags
from warmroute.recording import is_recording, read_recording

from .support import Client, decisions, lines

CANARY = "canary-7f3a91"
#: A long prompt with the word in its first block and in its last.
PROMPT = f"{CANARY} " + "some other words " * 400 + CANARY
POLICY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: {scorer}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: {scorer}
"""


@pytest.fixture
def record(start_picker, pb, host, tmp_path):
    """A picker that records into a file, and a client of it."""
    clients = []

    def start(*arguments: str):
        path = tmp_path / f"recorded-{len(clients)}.jsonl"
        picker = start_picker(
            f"--host={host}", f"--record-decisions={path}", "--endpoint=http://127.0.0.1:9", "--endpoint=http://127.0.0.2:9", *arguments
        )
        clients.append(Client(pb, picker.grpc))
        return picker, clients[-1], path

    yield start
    for client in clients:
        client.close()


def end(picker) -> None:
    picker.signal()
    picker.signal()
    assert picker.wait() == 0


def test_a_recording_holds_no_text_of_prompts_headers_or_users(record):
    picker, client, path = record("--drain-timeout=0")
    for number in range(3):
        client.complete(PROMPT, usage=5, x_request_id=f"request-{CANARY}", x_gateway_inference_fairness_id=f"user-{CANARY}", cookie=CANARY)
        client.complete(f"{number} {PROMPT}", usage=7)
    end(picker)
    data = path.read_bytes()
    forms = [CANARY.encode(), CANARY.encode().hex().encode(), CANARY.encode()[::-1]]
    # In base64 a word has three forms, by its place; their middles are enough.
    forms += [base64.b64encode(b"x" * shift + CANARY.encode())[4:-4] for shift in range(3)]
    for form in forms:
        assert form not in data, form
    recorded = decisions(path)
    assert [line["output_length"] for line in recorded] == [5, 7] * 3
    assert all(line["status"] == 200 and line["duration_ms"] > 0 for line in recorded)
    same = [line["hash_ids"] for line in recorded[::2]]
    assert same[0] == same[1] == same[2]
    assert not set(same[0]) & set(recorded[1]["hash_ids"])
    assert len(same[0]) == -(-recorded[0]["input_length"] // recorded[0]["unit_tokens"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_prompt_has_other_numbers_in_another_recording(record):
    """What is salted cannot be calculated by somebody who guesses a prompt; the engine's tests look for the numbers without salt."""
    numbers = []
    for _ in range(2):
        picker, client, path = record("--drain-timeout=0")
        client.complete(PROMPT)
        end(picker)
        numbers.append(set(decisions(path)[0]["hash_ids"]))
    assert len(numbers[0]) > 10
    assert not numbers[0] & numbers[1]


def test_a_recording_tells_its_configuration_its_endpoints_and_its_end(record):
    picker, client, path = record("--drain-timeout=0", "--policy=reference")
    client.complete(PROMPT)
    page = eventually(lambda: 'outcome="written"} 1.0' in (page := picker.get("/metrics")[0]) and page)
    assert "llm_d_epp_recording_active 1.0" in page
    end(picker)
    assert is_recording(path)
    recording = read_recording(path)
    assert "queue-scorer" in recording.policy
    assert recording.sample == 1.0
    assert recording.decisions == 1
    assert sorted(endpoint["address"] for endpoint in recording.endpoints.values()) == ["127.0.0.1:9", "127.0.0.2:9"]
    assert {key: recording.end[key] for key in ("reason", "written", "lost")} == {"reason": "stopped", "written": 1, "lost": 0}


def test_a_reload_puts_the_new_configuration_into_the_file(record, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(POLICY.format(scorer="queue-scorer"))
    picker, client, path = record("--drain-timeout=0", f"--config-file={file}")
    client.complete(PROMPT)
    file.write_text(POLICY.format(scorer="running-requests-size-scorer"))
    picker.signal(signal.SIGHUP)
    eventually(lambda: "running-requests-size-scorer" in path.read_text())
    client.complete(PROMPT)
    end(picker)
    recording = read_recording(path)
    [(after, policy)] = recording.later_policies
    assert "running-requests-size-scorer" in policy
    assert "running-requests-size-scorer" not in recording.policy
    first, second = decisions(path)
    assert first["timestamp"] < after < second["timestamp"]
    # Neither matches prefixes; the blocks are told all the same, for policies that do.
    assert first["hash_ids"] == second["hash_ids"]
    assert len(first["hash_ids"]) > 10


def test_a_sample_is_what_was_asked_for(record):
    picker, client, path = record("--drain-timeout=0", "--record-sample=0.1")
    for _ in range(400):
        client.complete("a prompt")
    end(picker)
    # Five standard deviations of a binomial: 6 each.
    assert 10 <= len(decisions(path)) <= 70
    assert read_recording(path).sample == 0.1


def test_a_file_that_is_in_use_is_left_alone_and_the_picker_says_what_to_do(start_process, start_picker, tmp_path):
    path = tmp_path / "in-use.jsonl"
    path.write_text("precious\n")
    refused = start_process("--endpoint=http://127.0.0.1:9", "--secure-serving=false", f"--record-decisions={path}")
    assert refused.wait() == 2
    assert "is not empty and is left as it is; name another, or move it away" in "".join(refused.errors)
    picker = start_picker(f"--record-decisions={path}", "--record-optional", "--drain-timeout=0")
    assert eventually(lambda: picker.logged("no decisions are recorded"))
    end(picker)
    assert path.read_text() == "precious\n"


def test_a_picker_that_decided_nothing_leaves_the_file_empty_for_the_next(start_picker, pb, tmp_path):
    path = tmp_path / "recorded.jsonl"
    arguments = (f"--record-decisions={path}", "--drain-timeout=0")
    end(start_picker(*arguments))
    assert path.read_bytes() == b""
    picker = start_picker(*arguments)
    client = Client(pb, picker.grpc)
    client.complete(PROMPT)
    client.close()
    end(picker)
    assert len(decisions(path)) == 1


def test_a_full_file_ends_the_recording_and_not_the_picker(record):
    picker, client, path = record("--drain-timeout=0", "--record-max-bytes=64Ki")
    for number in range(150):
        client.complete(f"{number} {PROMPT}")
    eventually(lambda: picker.logged("the recording of decisions is full"))
    client.complete(PROMPT)
    assert "llm_d_epp_recording_active 0.0" in picker.get("/metrics")[0]
    end(picker)
    assert path.stat().st_size <= 64 * 1024
    recording = read_recording(path)
    assert recording.end["reason"] == "--record-max-bytes reached"
    assert recording.end["written"] == recording.decisions > 10
    assert sum("recording of decisions is full" in entry["msg"] for entry in picker.log) == 1


def test_a_disk_that_refuses_ends_the_recording_and_not_the_picker(pb, tmp_path):
    path = tmp_path / "recorded.jsonl"
    limit = 40_000
    # What a full disk does to write(2), only that the number is another.
    set_limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); os.execv(sys.argv[1], sys.argv[1:])"
    limited = [sys.executable, "-c", set_limit]
    command = [sys.executable, "-m", "warmroute", "epp", "--endpoint=http://127.0.0.1:9", "--secure-serving=false", "--bind-address=127.0.0.1"]
    ports = [f"--{name}=0" for name in ("grpc-port", "grpc-health-port", "metrics-port")]
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*limited, *command, *ports, "--print-ready", "--drain-timeout=0", f"--record-decisions={path}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(os.environ),
        )
    try:
        client = Client(pb, json.loads(process.stdout.readline())["grpc"])
        for number in range(150):
            client.complete(f"{number} {PROMPT}")
        eventually(lambda: "cannot be written and ends here" in log.read_text())
        client.complete(PROMPT)
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(20)
    assert status == 0
    assert log.read_text().count("cannot be written and ends here") == 1
    # Whole lines only.
    assert len(lines(path)) > 0
    assert path.stat().st_size <= limit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record-sample=0"], "must be above 0: leave --record-decisions out"),
        (["--record-sample=1.5"], "is no number from 0 to 1"),
        (["--record-sample=0.5"], "--record-sample needs --record-decisions FILE"),
        (["--record-max-bytes=1Gi"], "--record-max-bytes needs --record-decisions FILE"),
        (["--record-optional"], "--record-optional needs --record-decisions FILE"),
        (["--record-decisions=x", "--record-max-bytes=1k"], "must be at least 65536 bytes"),
    ],
)
def test_flags_that_make_no_recording_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        parse_flags(arguments)


def test_a_folder_that_is_not_there_is_told(start_process, tmp_path):
    process = start_process("--endpoint=http://127.0.0.1:9", "--secure-serving=false", f"--record-decisions={Path('/nowhere/at/all')}")
    assert process.wait() == 2
    assert "name a file in a folder that the picker may write to" in "".join(process.errors)
