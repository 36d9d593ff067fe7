"""The scheduler of one replica in the manner of vLLM V1. No input or output, no clock: time is passed in.

A step first serves what runs (decodes and running prefills, in order of admission), then admits from the queue,
first come first served, within a budget of tokens per step and a number of sequences. A sequence is admitted when
the cache has room for all of it; when a running one finds no block, the one admitted last is preempted and computed
again later. The caller asks how long a step takes (`begin_step`), lets that time pass, and closes it (`finish_step`).

    engine.add(sequence, now)
    while (seconds := engine.begin_step(now)) is not None:
        now += seconds
        for sequence in engine.finish_step(now): ...
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cache import BlockCache
from .cache_events import BlocksStored
from .cost import CostModel, StepWork
from .cpu_tier import WHEN_STORED, CpuTier
from .statistics import Statistics

if TYPE_CHECKING:
    from .sequence import Sequence


class EngineLimitError(ValueError):
    """A sequence that the engine can never serve."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Sizes of one engine. Defaults: vLLM's, and the KV cache of one H100 with an 8B model."""

    cost: CostModel
    num_gpu_blocks: int = 27_000
    block_size: int = 16
    """Tokens per KV block."""
    max_num_seqs: int = 256
    """Sequences that run at once."""
    max_num_batched_tokens: int = 8192
    """Tokens computed per step."""
    max_model_len: int = 131_072
    """Tokens of prompt and answer together."""
    max_loras: int = 1
    """Adapters that run at once."""
    record_events: bool = False
    """Whether the cache remembers its changes for `BlockCache.take_events`."""
    cpu_blocks: int = 0
    """Blocks that the host's memory holds copies of; 0: none."""
    cpu_offload: str = WHEN_STORED
    """When a block is copied there: see `cpu_tier.OFFLOAD`."""


class SimulatedEngine:
    """One replica: queue, running set, cache and counters."""

    def __init__(self, settings: EngineSettings) -> None:
        """An idle engine with an empty cache.

        Raises:
            EngineLimitError: a sequence of `max_model_len` tokens would not fit the cache.
        """
        capacity = (settings.num_gpu_blocks - 1) * settings.block_size
        if settings.max_model_len > capacity:
            message = f"max_model_len {settings.max_model_len} is more than the {capacity} tokens the KV cache holds"
            raise EngineLimitError(message)
        self.settings = settings
        record = settings.record_events
        cpu = CpuTier(settings.cpu_blocks, settings.cpu_offload, record=record) if settings.cpu_blocks else None
        self.cache = BlockCache(settings.num_gpu_blocks, settings.block_size, record_events=record, cpu=cpu)
        self.statistics = Statistics(settings.max_model_len)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.deferred = 0
        """Waiting sequences that the last step passed over because all adapter slots were taken."""
        self.version = 0
        """Changes whenever anything a metrics page shows may have changed."""
        self._scheduled: list[tuple[Sequence, int]] = []
        self._in_step = False
        self._reset_pending = False

    def add(self, sequence: Sequence, now: float) -> None:
        """Queue a sequence.

        Raises:
            EngineLimitError: prompt and answer together are longer than `max_model_len`, or the prompt is empty.
        """
        if not sequence.prompt_tokens:
            message = "a sequence needs at least one prompt token"
            raise EngineLimitError(message)
        if sequence.prompt_tokens + sequence.output_tokens > self.settings.max_model_len:
            message = (
                f"{sequence.prompt_tokens} prompt tokens and {sequence.output_tokens} output tokens are more than "
                f"the model's {self.settings.max_model_len}"
            )
            raise EngineLimitError(message)
        sequence.arrived = now
        self.waiting.append(sequence)
        self.version += 1

    def abort(self, sequence: Sequence, now: float) -> None:
        """End a sequence early and free what it holds; a finished one is left alone."""
        if sequence.finished is None:
            if sequence in self.waiting:
                self.waiting.remove(sequence)
            self._end(sequence, "abort", now)
            self._drop_finished()

    def begin_step(self, now: float) -> float | None:
        """Schedule the next step; seconds it takes, or None when there is nothing to do.

        Raises:
            RuntimeError: the step before has not been finished.
        """
        if self._in_step:
            message = "begin_step called twice without finish_step"
            raise RuntimeError(message)
        if not self.running and not self.waiting:
            return None
        self.version += 1
        work = StepWork()
        budget = self.settings.max_num_batched_tokens
        preemptions = self.statistics.preemptions
        budget = self._schedule_running(work, budget)
        if self.statistics.preemptions == preemptions:
            self._admit(work, budget, now)
        self._in_step = True
        self.statistics.step_tokens.observe(work.prefill_tokens + work.decode_sequences)
        return self.settings.cost.step_seconds(work)

    def finish_step(self, now: float) -> list[Sequence]:
        """Close the step: sequences that advanced and want to know, or that finished.

        Raises:
            RuntimeError: no step has begun.
        """
        if not self._in_step:
            message = "finish_step called without begin_step"
            raise RuntimeError(message)
        self._in_step = False
        self.version += 1
        advanced = []
        ended = False
        for sequence, tokens in self._scheduled:
            if sequence.finished is not None:
                continue
            sequence.computed += tokens
            if sequence.computed < sequence.length:
                continue
            if sequence.output_tokens:
                self._produce(sequence, now)
            if sequence.generated >= sequence.output_tokens:
                reason = "length" if 0 < sequence.max_tokens <= sequence.output_tokens else "stop"
                self._end(sequence, reason, now)
                ended = True
                advanced.append(sequence)
            elif sequence.each_token:
                advanced.append(sequence)
        self._scheduled.clear()
        if ended:
            self._drop_finished()
        if self._reset_pending:
            self._reset_running()
        return advanced

    def reset_prefix_cache(self, *, running: bool = False, external: bool = False) -> bool:
        """Forget what the GPU holds; whether it could. As in vLLM, blocks in use prevent it.

        `running`: running sequences give up theirs and are computed again (after the step they are in); `external`: the CPU's copies go too.
        """
        if external and self.cache.cpu is not None:
            self.cache.cpu.clear()
        if self.cache.used_blocks and not running:
            return False
        if self._in_step:
            self._reset_pending = True
        else:
            self._reset_running()
        return True

    def _reset_running(self) -> None:
        self._reset_pending = False
        self.version += 1
        while self.running:
            self._preempt(self.running.pop())
        self.cache.clear()

    def running_adapters(self) -> list[str]:
        """Adapters of running sequences, sorted."""
        return sorted({sequence.lora for sequence in self.running if sequence.lora})

    def waiting_adapters(self) -> list[str]:
        """Adapters of waiting sequences, sorted."""
        return sorted({sequence.lora for sequence in self.waiting if sequence.lora})

    def _schedule_running(self, work: StepWork, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            tokens = min(sequence.length - sequence.computed, budget)
            if not self._make_room(sequence, sequence.computed + tokens):
                break
            self._schedule(sequence, tokens, work)
            budget -= tokens
            index += 1
        return budget

    def _make_room(self, sequence: Sequence, length: int) -> bool:
        """Blocks for `length` tokens, preempting the last of the running; False when it was itself preempted."""
        missing = -(-length // self.settings.block_size) - len(sequence.blocks)
        if missing <= 0:
            return True
        while True:
            given = self.cache.allocate(missing)
            if given is not None:
                sequence.blocks.extend(given)
                return True
            victim = self.running.pop()
            self._preempt(victim)
            if victim is sequence:
                return False

    def _preempt(self, victim: Sequence) -> None:
        self.cache.release(victim.blocks)
        victim.blocks.clear()
        victim.computed = victim.stored = 0
        victim.preemptions += 1
        self.statistics.preemptions += 1
        self.waiting.appendleft(victim)

    def _admit(self, work: StepWork, budget: int, now: float) -> None:
        adapters = {sequence.lora for sequence in self.running if sequence.lora}
        passed_over: list[Sequence] = []
        while self.waiting and budget > 0 and len(self.running) < self.settings.max_num_seqs:
            sequence = self.waiting.popleft()
            if sequence.lora and sequence.lora not in adapters and len(adapters) >= self.settings.max_loras:
                passed_over.append(sequence)
                continue
            if not self._take_prefix(sequence, work):
                self.waiting.appendleft(sequence)
                break
            tokens = min(sequence.length - sequence.computed, budget)
            self._make_room(sequence, sequence.computed + tokens)
            if sequence.admitted is None:
                # A host that runs late may place a step before an arrival it saw in the meantime.
                sequence.admitted = max(now, sequence.arrived)
                sequence.cached_tokens = sequence.computed
                full = sequence.prompt_tokens // self.settings.block_size * self.settings.block_size
                sequence.created_tokens = max(0, full - sequence.computed)
            if sequence.lora:
                adapters.add(sequence.lora)
            self.running.append(sequence)
            self._schedule(sequence, tokens, work)
            budget -= tokens
        self.deferred = len(passed_over)
        self.waiting.extendleft(reversed(passed_over))

    def _take_prefix(self, sequence: Sequence, work: StepWork) -> bool:
        """Hold the cached prefix if the rest of the sequence fits too. The last token is always computed."""
        block_size = self.settings.block_size
        sequence.extend_hashes(block_size, sequence.length)
        hashes = sequence.hashes[: (sequence.length - 1) // block_size]
        found = self.cache.match(hashes)
        missing = -(-sequence.length // block_size) - len(found)
        if missing > self.cache.free_blocks - self.cache.free_among(found):
            return False
        local = len(found)
        self.cache.hold(found)
        sequence.blocks = found
        sequence.stored = local
        loaded = self._load(sequence, hashes[local:])
        sequence.computed = len(sequence.blocks) * block_size
        work.loaded_tokens += loaded * block_size
        if sequence.admitted is None:
            sequence.loaded_tokens = loaded * block_size
        if sequence.preemptions:
            return True
        statistics = self.statistics
        statistics.prefix_cache_queries += sequence.length
        statistics.prefix_cache_hits += local * block_size
        if self.cache.cpu is not None:
            statistics.external_cache_queries += sequence.length - local * block_size
            statistics.external_cache_hits += loaded * block_size
        return True

    def _load(self, sequence: Sequence, hashes: list[int]) -> int:
        """Bring blocks back from the CPU, as many as it holds from the first of `hashes` on; how many."""
        cpu = self.cache.cpu
        loaded = 0 if cpu is None else cpu.leading(hashes)
        if cpu is None or not loaded:
            return 0
        # Before room is made: what makes room may push copies out.
        cpu.touch(sequence.hashes[: len(sequence.blocks) + loaded])
        given = self.cache.allocate(loaded)
        if given is None:
            message = "room was checked for the whole sequence, and its loaded part found none"
            raise RuntimeError(message)
        sequence.blocks.extend(given)
        self._store(sequence, len(sequence.blocks))
        return loaded

    def _schedule(self, sequence: Sequence, tokens: int, work: StepWork) -> None:
        if tokens == 1 and sequence.generated:
            work.add_decode(sequence.computed)
        else:
            work.add_prefill(sequence.computed, tokens)
        self._scheduled.append((sequence, tokens))
        # As vLLM does, full blocks are named when they are scheduled: an equal prompt in the same step shares them.
        full = (sequence.computed + tokens) // self.settings.block_size
        if full > sequence.stored:
            self._store(sequence, full)

    def _store(self, sequence: Sequence, full: int) -> None:
        block_size = self.settings.block_size
        first = sequence.stored
        sequence.extend_hashes(block_size, full * block_size)
        told = self.settings.record_events
        self.cache.store(
            sequence.blocks[first:full],
            BlocksStored(
                sequence.hashes[first:full],
                sequence.hashes[first - 1] if first else None,
                sequence.tokens(first * block_size, full * block_size) if told else b"",
                sequence.lora,
                [sequence.extra_keys(index, block_size) for index in range(first, full)] if told else None,
                sequence.salt,
            ),
        )
        sequence.stored = full

    def _produce(self, sequence: Sequence, now: float) -> None:
        statistics = self.statistics
        now = max(now, sequence.arrived if sequence.admitted is None else sequence.admitted)
        sequence.generated += 1
        statistics.generation_tokens += 1
        if sequence.first_token is None:
            sequence.first_token = now
            statistics.prompt_tokens += sequence.prompt_tokens
            statistics.prompt_tokens_cached += sequence.cached_tokens
            statistics.prompt_tokens_loaded += sequence.loaded_tokens
            statistics.time_to_first_token.observe(now - sequence.arrived)
        elif sequence.last_token is not None:
            statistics.inter_token.observe(now - sequence.last_token)
        sequence.last_token = now

    def _end(self, sequence: Sequence, reason: str, now: float) -> None:
        self.version += 1
        sequence.finished = "abort" if reason == "abort" else "length" if reason == "length" else "stop"
        self.cache.release(sequence.blocks)
        if self.cache.cpu is not None:
            self.cache.cpu.touch(sequence.hashes)
        sequence.blocks = []
        statistics = self.statistics
        statistics.finished[reason] += 1
        if reason == "abort":
            return
        statistics.request_prompt_tokens.observe(sequence.prompt_tokens)
        statistics.request_generation_tokens.observe(sequence.generated)
        statistics.request_max_tokens.observe(sequence.max_tokens)
        statistics.request_prefill_computed.observe(sequence.prompt_tokens - sequence.cached_tokens)
        statistics.request_preemptions.observe(sequence.preemptions)
        admitted = sequence.arrived if sequence.admitted is None else sequence.admitted
        now = max(now, admitted)
        statistics.end_to_end.observe(now - sequence.arrived)
        statistics.queue.observe(admitted - sequence.arrived)
        statistics.inference.observe(now - admitted)
        first = now if sequence.first_token is None else sequence.first_token
        statistics.prefill.observe(first - admitted)
        statistics.decode.observe(now - first)
        if sequence.generated > 1:
            statistics.time_per_output_token.observe((now - first) / (sequence.generated - 1))

    def _drop_finished(self) -> None:
        self.running = [sequence for sequence in self.running if sequence.finished is None]
