"""Streams of the grpcio host that wait for work; the native host's are in rust/extproc/tests/waiting.rs."""

import asyncio
import gc
import json
import threading
import weakref
from contextlib import asynccontextmanager

import grpc
import pytest

from warmroute import _core
from warmroute.host.base import METHOD
from warmroute.host.grpcio_host import GrpcioHost
from warmroute.host.waiting import WorkPool

from .messages import body, completion, headers

PATIENCE = 20


class Gate:
    """Work runs until it is opened."""

    def __init__(self):
        self.opened = threading.Event()
        self.entered = 0
        self.exchanges = []
        self.codes = []

    def exchange(self):
        exchange = GatedExchange(self)
        self.exchanges.append(weakref.ref(exchange))
        return exchange

    def alive(self):
        gc.collect()
        return sum(reference() is not None for reference in self.exchanges)


class GatedExchange:
    """Answers each message with itself, after work where it begins with `w`; `c` ends the stream after the work."""

    def __init__(self, gate):
        self.gate = gate

    def receive(self, message):
        if message.startswith(b"w"):
            return [b"first"], GatedWork(self, message)
        return [message], False

    def close(self, code=None):
        self.gate.codes.append(code)


class GatedWork:
    def __init__(self, exchange, message):
        self.exchange = exchange
        self.message = message
        self.ran = False

    def run(self):
        if self.exchange is not None:
            gate = self.exchange.gate
            gate.entered += 1
            self.ran = gate.opened.wait(PATIENCE)

    def cancel(self):
        self.exchange = None

    def resume(self):
        outcome = b"done " if self.ran else b"refused "
        return [outcome + self.message], self.message.endswith(b"c")


@asynccontextmanager
async def serving(gate):
    host = GrpcioHost(gate.exchange, "127.0.0.1:0")
    await host.start()
    async with grpc.aio.insecure_channel(host.address) as channel:
        yield host, channel.stream_stream(METHOD)
        gate.opened.set()
    await host.stop(0)


async def until(reached):
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110  # other threads and gRPC reach it
            await asyncio.sleep(0.005)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("warmroute-tokens")]


async def begin(process, message=b"w"):
    call = process()
    await call.write(message)
    assert await call.read() == b"first", "what was to be said before the wait is said before it"
    return call


async def test_many_streams_wait_at_once_and_hold_up_nobody_else():
    gate = Gate()
    async with serving(gate) as (host, process):
        assert threads() == []
        calls = [await begin(process, b"w%d" % index) for index in range(50)]
        await until(lambda: gate.entered >= 2)
        assert host.streams() == 50
        other = process()
        await other.write(b"other")
        assert await other.read() == b"other"
        await other.done_writing()
        assert await other.read() is grpc.aio.EOF
        gate.opened.set()
        for index, call in enumerate(calls):
            assert await call.read() == b"done w%d" % index
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
    await until(lambda: threads() == [])


async def test_nothing_is_read_from_a_stream_while_it_waits_and_its_work_may_end_it():
    gate = Gate()
    async with serving(gate) as (_, process):
        call = await begin(process)
        await call.write(b"next")
        await call.write(b"wc")
        await until(lambda: gate.entered == 1)
        gate.opened.set()
        assert [await call.read() for _ in range(4)] == [b"done w", b"next", b"first", b"done wc"]
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_streams_that_leave_while_they_wait_leave_nothing_behind():
    gate = Gate()
    async with serving(gate) as (host, process):
        calls = [await begin(process) for _ in range(30)]
        await until(lambda: gate.entered >= 2)
        entered = gate.entered
        kept = calls.pop()
        for call in calls:
            call.cancel()
        await until(lambda: host.streams() == 1)
        # The work that runs keeps its exchange until it is done.
        await until(lambda: gate.alive() <= entered + 1)
        gate.opened.set()
        assert await kept.read() == b"done w"
        assert gate.entered == entered + 1
        kept.cancel()
        await until(lambda: host.streams() == 0)
        await until(lambda: gate.alive() == 0)


async def test_stopping_waits_for_what_waits_and_cuts_what_outlasts_the_drain():
    gate = Gate()
    async with serving(gate) as (host, process):
        call = await begin(process, b"wc")
        stopping = asyncio.create_task(host.stop(PATIENCE))
        await until(lambda: gate.entered == 1)
        assert not stopping.done()
        gate.opened.set()
        assert await call.read() == b"done wc"
        assert await stopping
    gate = Gate()
    async with serving(gate) as (host, process):
        await begin(process)
        await until(lambda: gate.entered == 1)
        assert not await host.stop(0)
        await until(lambda: host.streams() == 0)
        assert gate.codes == [None]


async def test_work_that_there_is_no_room_for_is_refused_at_once():
    gate = Gate()
    pool = WorkPool(threads=1, queue=2)

    def begin_work():
        work = GatedWork(GatedExchange(gate), b"w")
        return asyncio.create_task(pool.done(work))

    waiting = [begin_work() for _ in range(3)]
    await until(lambda: gate.entered == 1)
    assert await begin_work() == ([b"refused w"], False)
    assert not any(task.done() for task in waiting)
    gate.opened.set()
    assert [(await task)[0] for task in waiting] == [[b"done w"]] * 3
    assert (await begin_work())[0] == [b"done w"]
    pool.close()


def test_an_exchange_without_a_tokenizer_never_waits(pb, start):
    picker = start()
    picker.pod(0)
    exchange = _core.Exchange(picker.engine)
    _, then = exchange.receive(headers(pb, x_request_id="id").SerializeToString())
    assert then is False
    replies, then = exchange.receive(body(pb, completion("m")).SerializeToString())
    assert (len(replies), then) == (2, False)
    picker.engine.remove_endpoint("default", "pod-0")
    exchange = _core.Exchange(picker.engine)
    exchange.receive(headers(pb).SerializeToString())
    assert exchange.receive(body(pb, completion("m")).SerializeToString())[1] is True
    with pytest.raises(TypeError):
        _core.TokenWork()
    assert json.dumps(picker.counter("tokenize_queued")) == "0.0"
