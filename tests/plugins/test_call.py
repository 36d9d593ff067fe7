"""What a plugin is given, and the life of its thread."""

import gc
import json
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from pydantic import BaseModel

from e2e.harness import eventually
from hermetic import messages
from plugins.conftest import LONG, add_pods, plugin, policy
from warmroute import _core
from warmroute.plugins import registry, scorer
from warmroute.plugins.endpoints import COLUMNS
from warmroute.plugins.running import RunningPlugins


def _request():
    """Headers (with a body to come, BUFFERED) and a body, as protobuf bytes."""
    path = b"\x0a\x05:path\x1a\x14/v1/chat/completions"
    headers = b"\x0a" + bytes([len(path) + 2]) + b"\x0a" + bytes([len(path)]) + path
    content = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    body = b"\x0a" + bytes([len(content)]) + content + b"\x10\x01"
    return b"\x12" + bytes([len(headers)]) + headers + b"\x5a\x02\x08\x02", b"\x22" + bytes([len(body)]) + body


REQUEST = _request()


def engine_with(python_plugin, pods=2, plugins=None, **settings):
    engine = _core.Engine(json.dumps(settings), plugins or policy("mine-type"), {"mine": python_plugin})
    add_pods(engine, pods)
    return engine


def ask(engine, pb, content=None, **headers):
    """One request through an exchange in this thread, as the grpcio host does; the exchange, still open."""
    exchange = _core.Exchange(engine)
    exchange.receive(messages.headers(pb, **headers).SerializeToString())
    replies, _ = exchange.receive(messages.body(pb, content or messages.completion("model")).SerializeToString())
    assert replies
    return exchange


def register(function):
    scorer("mine-type")(function)
    return plugin("mine-type")


def test_every_column_and_text_of_the_candidates(pb):
    seen = []

    def look(endpoints, request):
        seen.append((endpoints, request, {name: getattr(endpoints, name) for name in COLUMNS}))
        return endpoints.queue

    plugins = json.dumps(
        {
            "plugins": [
                {"type": "approx-prefix-cache-producer", "parameters": {"blockSizeTokens": 16, "autoTune": False}},
                {"type": "mine-type", "name": "mine"},
            ],
            "profiles": [{"name": "default", "plugins": [{"plugin": "mine"}]}],
            "min_block_tokens": 16,
        }
    )
    engine = engine_with(register(look), 3, plugins)
    engine.upsert_endpoint("other", "pod-9", "fd00::1", 8000, {})
    prompt = messages.completion("model", "word " * 40)
    first = ask(engine, pb, prompt)
    second = ask(engine, pb, prompt, x_team="blue", x_request_id="id-2")
    endpoints, request, columns = seen[1]

    # Scores end at 1: the first request may have gone to either of two.
    taken = columns["inflight_requests"].argmax()
    tokens = request.prompt_tokens
    blocks = -(-tokens // 16)
    others = [row for row in range(4) if row != taken]
    assert (tokens, request.block_tokens, request.total_blocks, request.max_tokens) == (50, 16, blocks, 100)
    assert columns["queue"].tolist() == [0, 1, 2, 0]
    assert columns["kv_usage"].tolist() == [0, 0.1, 0.2, 0]
    assert columns["running"].tolist() == [0] * 4
    for name, here, elsewhere in [
        ("inflight_requests", 1, 0),
        ("inflight_tokens", tokens, 0),
        ("prefill_tokens", tokens, 0),
        ("matched_blocks", blocks, 0),
        ("matched_tokens", tokens, 0),
        ("uncached_tokens", 1, tokens),
        ("media_matched", 0, 0),
    ]:
        assert (columns[name][taken], set(columns[name][others])) == (here, {elsewhere}), name
    assert np.isnan(columns["metrics_age"]).tolist() == [False, False, False, True]
    assert (columns["metrics_age"][:3] >= 0).all()
    assert all(column.dtype == np.float64 and not column.flags.writeable for column in columns.values())

    assert endpoints.names == ("pod-0", "pod-1", "pod-2", "pod-9")
    assert endpoints.namespaces == ("default",) * 3 + ("other",)
    assert endpoints.addresses[2:] == ("192.168.1.3:8000", "[fd00::1]:8000")
    assert [dict(labels) for labels in endpoints.labels] == [{"zone": "a"}, {"zone": "b"}, {"zone": "a"}, {}]
    assert endpoints.label("zone").tolist() == ["a", "b", "a", None]
    assert endpoints.label("none").tolist() == [None] * 4
    assert np.isnan(endpoints.attribute("nobody", "CacheNumBlocks")).all()
    assert (len(endpoints), repr(endpoints).startswith("Endpoints(names=['pod-0'")) == (4, True)
    assert (request.model, request.priority, request.request_id, request.headers["x-team"]) == ("model", 0, "id-2", "blue")
    assert request.attribute("SessionID") is None
    # Made once for as long as the pool stays the same.
    assert seen[0][0].label("zone") is endpoints.label("zone")
    for exchange in (first, second):
        exchange.close()


def test_rows_of_a_subset_keep_their_texts(pb):
    seen = []

    def look(endpoints, request):
        seen.append((tuple(endpoints.names), tuple(endpoints.addresses), endpoints.label("zone").tolist(), endpoints.queue.tolist()))
        return endpoints.queue

    engine = engine_with(register(look), 4, subset_filter=True)
    exchange = _core.Exchange(engine)
    first = messages.with_subset(messages.headers(pb), "192.168.1.4:8000", "192.168.1.2:8000")
    exchange.receive(first.SerializeToString())
    exchange.receive(messages.body(pb, messages.completion("model")).SerializeToString())
    assert seen == [(("pod-1", "pod-3"), ("192.168.1.2:8000", "192.168.1.4:8000"), ["b", "b"], [1, 3])]


def test_a_changed_pool_is_seen_at_once(pb):
    seen = []

    def look(endpoints, request):
        seen.append(endpoints.label("zone").tolist())
        return endpoints.queue

    engine = engine_with(register(look))
    ask(engine, pb)
    engine.upsert_endpoint("default", "pod-0", "192.168.1.1", 8000, {"zone": "c"})
    ask(engine, pb)
    assert seen == [["a", "b"], ["c", "b"]]


def test_a_class_keeps_state_over_a_reload_that_does_not_change_it(pb):
    class Parameters(BaseModel):
        start: int = 0

    made = []

    @scorer("counts")
    class Counts:
        def __init__(self, parameters: Parameters):
            self.count = parameters.start
            made.append(self)

        def __call__(self, endpoints, _request):
            self.count += 1
            return endpoints.queue

    definition = registry.find("counts")
    assert definition.parameters is not None

    def running(start, previous=None, budget=LONG):
        return RunningPlugins.start({"mine": (definition, definition.parameters(start=start))}, budget, previous)

    first = running(5)
    engine = _core.Engine("{}", policy("counts"), first.plugins)
    add_pods(engine, 2)
    ask(engine, pb)
    second = running(5, first)
    engine.reload(policy("counts"), second.plugins)
    ask(engine, pb)
    third = running(6, second)
    engine.reload(policy("counts"), third.plugins)
    ask(engine, pb)
    fourth = running(6, third, budget=1.0)
    assert [one.count for one in made] == [7, 7, 6]
    assert fourth.plugins["mine"] is not third.plugins["mine"]


def test_the_thread_ends_with_the_last_owner_of_the_plugin(pb):
    threads = []

    def look(endpoints, request):
        threads.append(threading.current_thread())
        return endpoints.queue

    engine = engine_with(register(look))
    ask(engine, pb).close()
    (thread,) = threads
    assert (thread.name, thread.daemon, thread.is_alive()) == ("plugin mine", True, True)
    engine.reload(policy(None))
    thread.join(LONG)
    assert not thread.is_alive()

    python_plugin = plugin("mine-type")
    known = set(threading.enumerate())
    reference = weakref.ref(next(thread for thread in known if thread.name == "plugin mine"))
    del python_plugin, known, thread
    gc.collect()
    eventually(lambda: (thread := reference()) is None or not thread.is_alive(), "the thread of a plugin that nobody has")


def test_an_exchange_can_be_closed_while_its_plugin_works(pb):
    called, release = threading.Event(), threading.Event()

    def block(endpoints, request):
        called.set()
        release.wait()
        return endpoints.queue

    engine = engine_with(register(block))
    exchange = _core.Exchange(engine)
    exchange.receive(messages.headers(pb).SerializeToString())
    content = messages.body(pb, messages.completion("model")).SerializeToString()
    replies = []
    deciding = threading.Thread(target=lambda: replies.extend(exchange.receive(content)[0]))
    deciding.start()
    assert called.wait(LONG)
    closing = threading.Thread(target=exchange.close)
    closing.start()
    release.set()
    for thread in (deciding, closing):
        thread.join(LONG)
        assert not thread.is_alive()
    assert replies
    with pytest.raises(ValueError, match="closed"):
        exchange.receive(content)


@pytest.mark.parametrize("body", ["while True: pass", "threading.Event().wait()", "time.sleep(1000)", "sum(range(10**9))", "return endpoints.queue"])
def test_a_process_ends_whatever_its_plugins_do(body, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import json, sys, threading, time
sys.path[:0] = {sys.path!r}
from warmroute import _core
from warmroute.plugins import registry, scorer
from warmroute.plugins.build import build

@scorer("mine")
def mine(endpoints, request):
    {body}

plugin = build(registry.find("mine"), "mine", None, {30 if "return" in body else 0.05})
policy = {{"plugins": [{{"type": "mine"}}], "profiles": [{{"name": "default", "plugins": [{{"plugin": "mine"}}]}}]}}
engine = _core.Engine("{{}}", json.dumps(policy), {{"mine": plugin}})
engine.upsert_endpoint("default", "pod", "10.0.0.1", 8000, {{}})
exchange = _core.Exchange(engine)
exchange.receive(bytes.fromhex({REQUEST[0].hex()!r}))
replies, _ = exchange.receive(bytes.fromhex({REQUEST[1].hex()!r}))
assert b"10.0.0.1:8000" in replies[0]
print([failure["reason"] for failure in engine.plugin_failures()])
"""
    )
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == ("[]\n" if "return" in body else "['timeout']\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("p", "picker", 1.0), 'plugin "p": the role must be "scorer" or "filter", not "picker"'),
        (("p", "scorer", 0.0), 'plugin "p": the budget must be more than 0 and at most 60 seconds, not 0'),
        (("p", "scorer", float("nan")), 'plugin "p": the budget must be more than 0 and at most 60 seconds, not NaN'),
        (("p", "scorer", 61.0), 'plugin "p": the budget must be more than 0 and at most 60 seconds, not 61'),
    ],
)
def test_a_plugin_with_wrong_settings_is_refused(arguments, said):
    with pytest.raises(ValueError) as caught:
        _core.PythonPlugin(*arguments)
    assert str(caught.value) == said
