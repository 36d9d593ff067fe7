"""The engine of warmroute, in Rust (rust/python). Conversions only; each class mirrors one of the engine's rooms."""

from collections.abc import Mapping, Sequence
from typing import Any, final

__version__: str

@final
class Engine:
    """What decides: pool, prefix index, profile and counters, shared by every stream of a picker.

    `settings` is a JSON object (see `warmroute.config.engine_settings`, which builds it):
    `max_body_bytes`, `max_endpoints` (length of the fallback list),
    `subset_filter` bool, `emit_endpoint_scores` bool, `explain` bool, `response_usage` bool, `response_sample` (0 to 1), `stream_metrics` bool, `index_bytes`, `decisions_kept`,
    `record_sample` (share of the decisions that is recorded, above 0 and at most 1; null: none), `seed` (of its chance; null: another each time).
    `policy` is a JSON object too (`warmroute.config.policy_settings`): `plugins` [{`type`, `name`, `parameters`}],
    `profiles` [{`name`, `plugins`: [{`plugin`, `weight`}]}], `saturation_detector` (a name or null), `parsers` (types in order; null: the default ones), `min_block_tokens`. Default: the default policy.
    Raises ValueError with a message that names the plugin and the field when something is wrong.
    """

    def __new__(cls, settings: str, policy: str | None = None, plugins: dict[str, PythonPlugin] | None = None) -> Engine:
        """`plugins`: by their names in the policy, which need no registered type there."""
    def reload(self, policy: str, plugins: dict[str, PythonPlugin] | None = None) -> None:
        """Decide by another policy from now on; plugins that did not change keep their state. ValueError: the policy in force stays."""
    def plugin_failures(self) -> list[dict[str, Any]]:
        """Why plugins written in Python were skipped since the start: plugin_type, plugin_name, reason, count, last (what it said the last time).

        Reasons: "exception" (`last` ends with lines of its trace), "timeout", "busy" (still in a call that timed out), "bad_result".
        """
    def token_outcomes(self) -> list[dict[str, Any]]:
        """How requests fared that were to become tokens, since the start: outcome, count, last (what the tokenizer said the last time; empty for "ok").

        Outcomes: "ok", "unsupported", "bad_request", "unavailable", "busy", "panicked", "abandoned" (the gateway or its client did not wait for it).
        """
    def upsert_endpoint(
        self,
        namespace: str,
        name: str,
        address: str,
        port: int,
        labels: Mapping[str, str],
        metrics_host: str | None = None,
    ) -> None:
        """Add an endpoint or change it (same namespace and name). `address` is an IP literal; ValueError otherwise."""
    def remove_endpoint(self, namespace: str, name: str) -> bool:
        """Remove an endpoint; False when it was not there. Requests in flight on it keep their reservation until they end."""
    def endpoints(self) -> list[dict[str, Any]]:
        """Live state, one dict an endpoint.

        Keys: namespace, name, address ("ip:port"), labels, waiting, running, kv_usage (None where unknown), block_size,
        num_blocks, running_adapters, waiting_adapters, inflight_requests, inflight_tokens, prefill_tokens, picks (total), matched_tokens (total),
        prompt_tokens (total), first_tokens, first_token_seconds, token_gaps, token_gap_seconds, output_tokens and finished_requests (the engine's own totals),
        cached_tokens and queried_tokens (the same of its prefix cache), cache_drift (share of prompt tokens that the engine
        found in its cache less the share expected, over the last minute; None: too little to tell), metrics_age (seconds or None), indexed_blocks, attributes (what extractors published beside these: "producer/key" to number),
        models (ids that the server listed, empty unless a models-data-source is polled).
        """
    def feed_metrics(self, namespace: str, name: str, page: bytes, engine: str = "vllm") -> None:
        """Give the engine a metrics page that something else than the Scraper fetched. ValueError: no such endpoint, or no metrics page."""
    def stats(self) -> list[dict[str, Any]]:
        """Every metric family of the engine.

        Keys: name (without prefix `llm_d_epp_`), kind ("counter", "gauge", "histogram"), help, label_names, buckets (upper bounds
        in the family's unit, without +Inf; histograms only), samples: list of (label_values, value) for counters and gauges,
        (label_values, cumulative bucket counts including +Inf, sum) for histograms.
        """
    def decisions(self, limit: int = 20) -> list[dict[str, Any]]:
        """The last decisions, newest first: time_ms (age in milliseconds), request_id, model, prompt_tokens, destination, and per candidate the parts of its score. Empty unless `explain`."""
    def take_refusals(self) -> tuple[list[dict[str, Any]], int]:
        """The requests refused since the last call, oldest first, and how many more there were than the 256 that are kept.

        Keys: age_ms, request_id ("" when the request had none), status (HTTP), code, dropped_reason (None unless dropped), message.
        """
    def recording_header(self, policy: str, unix_seconds: float) -> str | None:
        """The first line of a recording, with its line break: `policy` is the effective configuration as text. None unless `record_sample` is set."""
    def recording_policy(self, policy: str) -> str | None:
        """A line that says that another configuration decides from now on; None as above."""
    def take_recorded(self, limit: int) -> str:
        """At most so many recorded decisions whose exchanges have ended, as lines; "" where there are none. Lets go of the GIL."""
    def stop_recording(self) -> None:
        """Record nothing more; what waits to be taken counts as lost."""
    def recording_state(self) -> dict[str, int] | None:
        """What became of the sampled decisions: taken, lost (the queue was full), queued. None where nothing is recorded."""
    def index_usage(self) -> dict[str, int]:
        """What the prefix index holds: blocks (distinct), pairs (block and endpoint), bytes, evictions (since the start, by the byte budget)."""
    def kv_events(self) -> KvEvents:
        """Where KV events go. To be asked for once: what one such object opens, another does not know."""
    def maintain(self) -> None:
        """Follow what the engines say of themselves (block size, number of blocks) and compact; call it about once a second."""
    def set_synced(self, *, synced: bool) -> None:
        """Tell the engine that discovery has delivered its first full set."""
    def is_synced(self) -> bool: ...

@final
class Rerun:
    """Asks a policy what it would have chosen, from the state that a recording tells of each decision. Nothing is reserved, so each answer stands alone."""

    def __new__(cls, policy: str, seed: int = 0) -> Rerun:
        """`policy`: as of the Engine. ValueError: it is wrong, or has plugins in Python."""
    def feed(self, lines: bytes) -> dict[str, Any]:
        """The next lines of the recording, whole ones: a row for each decision in them.

        Columns: timestamp (ms since the start), tied (bool: the policy rates what was chosen as high as its own choice), and in "recorded" and "chosen"
        each endpoint (number in the recording), uncached_tokens, queued_tokens, inflight; None where the policy refuses.
        ValueError: a line that no recording has, with its number.
        """

@final
class KvEvents:
    """What publishers of KV events say, on its way into the exact prefix index; `warmroute.kv_events` has the sockets.

    Where a number is answered, a replay is wanted from that sequence number on: ask the publisher, give what comes to `replayed`, and end with
    `replay_ended`. None of it holds the GIL while the index is written.
    """

    def pool_generation(self) -> int:
        """Grows with each change of the pool."""
    def pool(self) -> list[tuple[int, int, str, str, str, int, dict[str, str]]]:
        """The endpoints, in no order: slot, incarnation (another one for each server that has the slot, also for one that left and came back), namespace, name, address, port, labels."""
    def open(self, slot: int, incarnation: int, pod: str, rank: int, engine: str) -> int | None:
        """A publisher of that endpoint; None: the endpoint has left. `pod`: "ip:port", for metrics. `engine`: "vllm" or "sglang"; ValueError otherwise."""
    def close(self, publisher: int) -> None:
        """The publisher is gone, and with it what it announced."""
    def connected(self, publisher: int, *, connected: bool) -> None:
        """The connection came or went. The entries stay: the next message tells whether anything was missed."""
    def join(self, publisher: int) -> int | None:
        """The publisher can be asked for a replay now: what it holds is known before it sends anything."""
    def receive(self, publisher: int, topic: bytes, sequence: bytes, payload: bytes) -> int | None:
        """The frames of a message. One of a publisher whose endpoint has left is ignored."""
    def replayed(self, publisher: int, sequence: bytes, payload: bytes) -> None:
        """The frames of a message that was asked for."""
    def replay_ended(self, publisher: int, *, complete: bool) -> int | None:
        """The publisher sent all it had, or (not complete) could not be asked."""
    def reconnected(self, publisher: int) -> None:
        """Counts a connection after the first."""
    def socket_error(self, publisher: int, operation: str) -> None:
        """Counts an error: connect, bind, subscribe, recv, monitor, replay_connect or replay; others count as "other"."""

@final
class Exchange:
    """One HTTP exchange over ext_proc, for hosts written in Python: serialized ProcessingRequest in, serialized ProcessingResponses out."""

    def __new__(cls, engine: Engine) -> Exchange: ...
    def receive(self, message: bytes) -> tuple[list[bytes], bool | TokenWork]:
        """Replies to send in order, and what follows after them.

        True: end the stream (status OK). False: read on. Work: have it run and resume it before anything else is read.
        ValueError: bytes that are no ProcessingRequest; end the stream with INVALID_ARGUMENT.
        """
    def close(self, code: int | None = None) -> None:
        """The stream ended, with this gRPC status code or (None) because the peer is gone; releases what was reserved. Idempotent; dropping the object does the same."""

@final
class TokenWork:
    """What an exchange waits for: its prompt as tokens."""

    def run(self) -> None:
        """Do it, on a thread that may block; lets go of the GIL. After `cancel` there is nothing to do."""
    def cancel(self) -> None:
        """Nobody waits for it any more: what it holds is given back, at the latest when it has run."""
    def resume(self) -> tuple[list[bytes], bool | TokenWork]:
        """Go on with the exchange: as its `receive`. Work that was not run counts as refused. ValueError: still running, resumed before, or the exchange is closed."""

@final
class EchoExchange:
    """Same interface as Exchange; answers without deciding anything: the floor of a host in `bench/`."""

    def __new__(cls) -> EchoExchange: ...
    def receive(self, message: bytes) -> tuple[list[bytes], bool]: ...
    def close(self, code: int | None = None) -> None: ...

@final
class PythonPlugin:
    """A filter or scorer written in Python, as the engine asks it; `warmroute.plugins.build` makes it and starts its thread.

    A decision waits up to the budget and then goes on without it. Until the function returns, later decisions skip it at once.
    """

    def __new__(cls, name: str, role: str, budget_seconds: float) -> PythonPlugin:
        """`role`: "scorer" or "filter". ValueError: another role, or a budget that is not above 0 and at most 60 seconds."""
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    def work(self) -> PluginWork:
        """The answering side, for one thread."""

@final
class PluginWork:
    """The questions of one plugin, for its thread. It does not keep the plugin alive."""

    def next(self, answer: Any = None, raised: str | None = None, bad_result: str | None = None, /) -> PluginQuestion | None:
        """Answer the question in hand, if any, and wait for the next one without holding the GIL; None: nobody can ask any more.

        `answer`: a buffer of float64, one a row; or what the function raised, or what is wrong with its result.
        """
    def close(self) -> None:
        """Questions are refused from now on, and `next` returns None."""

@final
class PluginPool:
    """The endpoints of the pool at one moment, in its order; the same object for as long as they do not change."""

    def __len__(self) -> int: ...
    def names(self) -> tuple[str, ...]: ...
    def namespaces(self) -> tuple[str, ...]: ...
    def addresses(self) -> tuple[str, ...]: ...
    def labels(self) -> tuple[dict[str, str], ...]: ...

@final
class PluginQuestion:
    """What a plugin is asked. `warmroute.plugins.Endpoints` and `Request` are its views."""

    @property
    def pool(self) -> PluginPool: ...
    @property
    def rows(self) -> int: ...
    def columns(self) -> bytes:
        """`warmroute.plugins.endpoints.COLUMNS`, one after the other, each one float64 a row."""
    def positions(self) -> bytes | None:
        """Position in the pool of each row (uint32); None: all of the pool, in order."""
    @property
    def model(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def total_blocks(self) -> int: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def priority(self) -> int: ...
    @property
    def fairness_id(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    def headers(self) -> dict[str, str]:
        """The first value of each header, names in lower case."""
    def request_attribute(self, key: str) -> str | None:
        """What a configured plugin found out about the request."""
    def attribute(self, producer: str, key: str) -> bytes:
        """A number that an extractor published of each row's endpoint (float64), as it is now; NaN where it did not."""

@final
class NativeServer:
    """The native ext_proc host: gRPC in Rust threads, no Python on the way of a request. Serving starts on construction."""

    def __new__(
        cls,
        engine: Engine | None,
        address: str,
        *,
        tls: tuple[bytes, bytes] | None = None,
        threads: int = 0,
        max_message_bytes: int = 0,
        tls_min_version: str = "",
        echo_destinations: Sequence[str] = ...,
    ) -> NativeServer:
        """Bind and serve.

        `engine` None: echo mode, which names `echo_destinations` ("host:port") in turn. `address`: "host:port" (port 0 picks a free one) or "unix:/path". `tls`: (certificate chain PEM, key PEM).
        `threads` 0: one per core. `max_message_bytes` 0: no limit beyond the body limit. OSError when the address is taken; ValueError for bad PEM.
        """
    @property
    def address(self) -> str:
        """Where it listens, with the real port."""
    def replace_tls(self, certificate: bytes, key: bytes) -> None:
        """New connections use this certificate from now on. ValueError for bad PEM; the old one stays."""
    def streams(self) -> int:
        """Streams open now."""
    def stop(self, drain_seconds: float) -> bool:
        """Stop accepting, let open streams end for up to `drain_seconds`, then close. True when all ended by themselves. Blocks without holding the GIL."""

@final
class Scraper:
    """Polls sources (metrics pages, lists of models) at every endpoint of the engine from Rust threads."""

    def __new__(cls, engine: Engine, settings: str) -> Scraper:
        """Start polling. ValueError names the source and the field that cannot work, unreadable TLS files included.

        `settings` JSON: interval_seconds (base tick), timeout_seconds, idle_backoff_seconds (longest interval when nothing happens; 0: none), sources.

        A source: name (default: its type), type ("metrics-data-source", "models-data-source", "dcgm-data-source"), scheme ("http", "https"), path, port (None or 0: the
        endpoint's own; for dcgm-data-source None means 9400), interval_seconds (a multiple of the base tick; None: each tick), insecure_skip_verify (default true), ca_cert_path,
        client_cert_path, client_key_path (PEM files, read again each minute), use_node_address (refused when true: needs Kubernetes), filter (bool: ask for the wanted families with
        name[]; default for metrics-data-source only), extractors (may be empty).

        An extractor: name (default: its type; the producer of its attributes), type ("core-metrics-extractor", "models-data-extractor", "dcgm-extractor"), and of
        core-metrics-extractor only engine_label_key, default_engine, engines (as `engineConfigs`, with `customMetrics`; built-in engines need no mention).
        """
    def states(self) -> list[dict[str, Any]]:
        """One row an endpoint and source.

        Keys: address, source (name), source_type, ok (bool), error (of the last poll, or ""), filtered (bool), filter_wanted (bool), note, tls_error (why replaced
        certificate files are not in use, or ""), bytes (of the last answer),
        interval_seconds (now), scrapes, failures, extractors: list of name, type, error (what the last good answer lacked, or ""), failures.
        """
    def stop(self) -> None: ...

def scan_metrics_page(page: bytes, engine: str = "vllm") -> dict[str, Any]:
    """What the engine's page says, as in Engine.endpoints(); for tests and `warmroute` tools."""

def plugin_kinds() -> str:
    """JSON of every plugin type of the engine: `types` [{type, roles, stability, deprecated, summary, consumes, produces, parameters}], `aliases`, `data` {name: default producer}, `several` (names of data that several plugins may make).

    A parameter is {name, expected (in words), required, default, unit, summary, deprecated (what to write instead, or null), fields (of objects)}.
    """

def check_plugin(type_name: str, name: str, parameters: str) -> str:
    """JSON: {values (complete), references [{path, plugin (null: any), produces}], deprecated [{path, instead}]} or {problems [{path, message}]}; paths are lists of names and numbers below `parameters`."""

def end_after_signals(first_seconds: float, second_seconds: float) -> None:
    """End the process that long after the first, and after a second, SIGTERM or SIGINT, also when nothing in Python can run; with status 1.

    To be called after Python's own handlers are in place: they are called as before.
    """

def scan_body(path: str, body: bytes) -> dict[str, Any]:
    """What the scanner finds in a request body: dialect, model, stream, max_tokens, prompt_tokens, blocks. ValueError with the client's message when it is refused."""

@final
class Trace:
    """Requests with lengths and block ids instead of text, for `simulate`. Immutable."""

    @staticmethod
    def read(text: str, name: str) -> Trace:
        """A trace in the Mooncake format: a JSON object a line with `timestamp` (ms), `input_length`, `output_length`, `hash_ids`; recorded decisions are one too.

        Beyond it: `unit_tokens` or `block_size` (tokens of a block, 512), `after` (number of the request, from 0, whose end this one waits for; `timestamp` is then
        the pause), `lora`. Other fields are ignored. ValueError: `name`, the line's number and what is wrong with it.
        """
    @staticmethod
    def generate(settings: str, seed: int) -> Trace:
        """A generated trace. `settings` JSON: `workload`, `requests` (10000), `rate` (requests a second, 10) or `seconds`, `unit_tokens` (16), and those of the workload.

        shared-prefix: groups 150, prompts_per_group 5, prefix_tokens 6000, question_tokens 1200, output_tokens 1000. zipf: groups 150, exponent 1, prefix_tokens 6000,
        question_tokens 400, question_spread 0.5, output_tokens 250, output_spread 0.5. few-groups: groups 4, prefix_tokens 6000, question_tokens 1200,
        question_spread 0.5, output_tokens 300, output_spread 0.5. no-reuse and sharegpt: prompt_tokens 220, prompt_spread 1 (1.42), output_tokens 180, output_spread 1.
        skewed: short_tokens 500, long_tokens 60000, long_share 0.1, prompt_spread 0.1, output_tokens 200, output_spread 0.5. chat: turns 6, think_seconds 8,
        system_prompts 8, system_tokens 1024, question_tokens 120, question_spread 0.8, output_tokens 200, output_spread 0.7, max_tokens 110000. agent: turns 20,
        think_seconds 3, start_tokens 14000, turn_tokens 1200, output_tokens 150, output_spread 0.5, shared_tokens 0, max_tokens 110000. lora-mix: adapters 8,
        exponent 1, base_share 0, base {"workload": "sharegpt"}. A spread is the standard deviation of the logarithm of a lognormal length. ValueError names the field.
        """
    @property
    def name(self) -> str: ...
    @property
    def requests(self) -> int: ...
    @property
    def seconds(self) -> float:
        """Over which requests arrive that wait for no other, as recorded."""
    @property
    def session_seconds(self) -> float:
        """Mean seconds from a conversation's first request to its last, answers at 20 ms a token; 0 where no request waits for another."""
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def unit_tokens(self) -> int:
        """Tokens that a block id stands for."""
    @property
    def headers(self) -> list[str]:
        """Header lines of a recording, as they are."""
    @property
    def dropped(self) -> int:
        """Requests that were left out because their prompt or answer has no tokens."""
    @property
    def unknown_outputs(self) -> int:
        """Requests of which nobody knows how long the answer was: they have the mean of the others."""
    def write(self) -> str:
        """The trace as text that `read` reads."""

@final
class Progress:
    """How far a simulation is; for other threads."""

    def __new__(cls) -> Progress: ...
    @property
    def done(self) -> int:
        """Requests that have ended, told about every thousand."""
    def cancel(self) -> None:
        """Let the simulation end with RuntimeError."""

def simulate(trace: Trace, settings: str, policy: str, progress: Progress | None = None) -> dict[str, Any]:
    """Play a trace against a pool in simulated time; the engine itself picks. Releases the GIL; the same arguments give the same result.

    `settings` JSON: replicas [{cost {step, prefill_token, decode_sequence, decode_kv_token, prefill_context: seconds}, num_gpu_blocks, block_size, max_num_seqs,
    max_num_batched_tokens, max_loras (0: any number)}], rate (requests a second that arrivals are scaled to; null: as recorded), limit (first requests only; null: all),
    repeat (1; each time with blocks of its own), seed (0), scrape_seconds (0.05; 0: only one page at the start), signals ("first_token", "counters", "ends"),
    warm_up (0.15, share of the requests left out of statistics), index_bytes (null: 1 GiB), details (false), stop_after_seconds (null). `policy` as for `Engine`.

    Result: requests (all) and what became of them: answered, measured (those that the statistics are of), refused, too_long (for the smallest cache), unfinished,
    never_sent (not due, or after a turn without an answer); seconds (simulated); ttft, tpot (answers of two tokens or more), e2e, normalized (e2e / output tokens), each
    {mean, p50, p90, p99} in seconds, None where nothing was measured; offered and throughput (requests that came, and answers, a second between the first and last measured arrival),
    output_tokens_per_second; hit_ratio, predicted_hit_ratio (of prompt tokens); imbalance {requests, inflight} (most over mean); preemptions; picks (measured, by replica);
    learnt {curve {prefill_base, prefill_token, decode_base, decode_request, output_tokens}, prefill_factors, decode_factors, signals} when the last request
    came that waits for no other;
    details: None, or {arrival, ttft, finish, replica, cached} by request (NaN and -1: not answered).

    Where requests wait for others, those are measured that arrive when as many conversations are open as the rate asks for (after three times `session_seconds`, at most
    three quarters of the time), and before the last one began: after that the pool only empties.
    ValueError: settings, policy or trace that cannot be used; RuntimeError: cancelled.
    """

__all__ = [
    "EchoExchange",
    "Engine",
    "Exchange",
    "KvEvents",
    "NativeServer",
    "PluginPool",
    "PluginQuestion",
    "PluginWork",
    "Progress",
    "PythonPlugin",
    "Rerun",
    "Scraper",
    "TokenWork",
    "Trace",
    "__version__",
    "check_plugin",
    "end_after_signals",
    "plugin_kinds",
    "scan_body",
    "scan_metrics_page",
    "simulate",
]
