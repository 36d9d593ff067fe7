"""The simulator's own routes, below `/sim/`: faults, state, received requests. No fault ever touches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import bad_request
from .faults import Fault, FaultError

if TYPE_CHECKING:
    from aiohttp import web

    from .call import Call
    from .replica import Replica


async def set_fault(call: Call) -> web.StreamResponse:
    """`POST /sim/fault {"kind", …, "replica"}`; `replica` (index or "all") addresses others than the one asked."""
    body = call.json()
    targets = _targets(call, body.pop("replica", None))
    try:
        fault = Fault.from_json(body)
    except FaultError as error:
        raise bad_request(str(error)) from error
    for target in targets:
        # `refuse` cuts the connections of its replica; this one still has to carry the answer.
        target.set_fault(fault, spare=call.request.transport)
    response = await call.answer({"kind": fault.kind, "replicas": [target.index for target in targets]})
    response.force_close()
    return response


async def clear_fault(call: Call) -> web.StreamResponse:
    """`DELETE /sim/fault`, `?replica=` as above."""
    targets = _targets(call, call.request.query.get("replica"))
    for target in targets:
        target.set_fault(None)
    return await call.answer({"kind": None, "replicas": [target.index for target in targets]})


async def state(call: Call) -> web.StreamResponse:
    """`GET /sim/state`: what the replica is doing."""
    replica = call.replica
    engine = replica.engine
    fault = replica.fault
    driver = replica.driver
    return await call.answer(
        {
            "replica": replica.index,
            "address": replica.address,
            "open_requests": replica.open_requests,
            "running": len(engine.running),
            "waiting": len(engine.waiting),
            "used_blocks": engine.cache.used_blocks,
            "named_blocks": engine.cache.named_blocks,
            "cpu_blocks": 0 if engine.cache.cpu is None else len(engine.cache.cpu),
            "kv_event_sequence": None if replica.publisher is None else replica.publisher.sequence,
            "fault": None if fault is None else fault.kind,
            # Whether the simulator kept up with its own cost model: see `EngineDriver`.
            "steps": driver.steps,
            "lag_seconds": driver.lag_seconds,
            "late_steps": driver.late_steps,
            "lost_seconds": driver.lost_seconds,
        }
    )


async def requests(call: Call) -> web.StreamResponse:
    """`GET /sim/requests`: the last requests received, oldest first."""
    return await call.answer({"requests": [entry.document() for entry in call.replica.requests]})


def _targets(call: Call, value: Any) -> list[Replica]:
    siblings = call.replica.siblings
    if value is None:
        return [call.replica]
    if value == "all":
        return list(siblings)
    try:
        index = int(value)
    except (TypeError, ValueError):
        index = -1
    if not 0 <= index < len(siblings):
        raise bad_request(f"replica must be 'all' or 0 to {len(siblings) - 1}, not {value!r}", "replica")
    return [siblings[index]]
