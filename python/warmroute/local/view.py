"""The live view: what each endpoint does now, from the picker's debug pages."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmroute.discovery.endpoints import EndpointRecord
from warmroute.local import probe
from warmroute.local.endpoints import host_port
from warmroute.local.probe import Address, ProbeError
from warmroute.local.report import Reporter

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Seconds between two looks: on a terminal, and for log lines.
_LIVE_INTERVAL = 0.5
_LINE_INTERVAL = 10.0
_SHOWN_DECISIONS = 8
_SHOWN_CANDIDATES = 3
#: Lines of the live view around the rows of endpoints.
_FRAME_LINES = 8
_FEWEST_ROWS = 3
#: Metrics older than this, in seconds, are told to be old: an idle endpoint is asked each second.
_OLD = 5.0

#: Gives the endpoints that fail their health check.
DownEndpoints = Callable[[], Sequence[EndpointRecord]]


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint in the view. None: not known."""

    name: str
    address: str
    #: As its metrics page says.
    running: int | None
    waiting: int | None
    #: Requests that the gateway has open there.
    inflight: int
    #: 0 to 1.
    kv_usage: float | None
    #: Share of prompt tokens that the index expected in its cache, since the start.
    prefix_hits: float | None
    picks: int
    #: Picks per second since the look before.
    rate: float
    #: `ready`, or what is wrong.
    state: str


def rows(
    current: Sequence[Mapping[str, Any]],
    previous: Sequence[Mapping[str, Any]],
    seconds: float,
    down: Sequence[EndpointRecord] = (),
) -> list[Row]:
    """Two looks at `/debug/endpoints`, `seconds` apart, as rows sorted by name; `down` fail their health check, known to the picker or not."""
    failing = {host_port(endpoint) for endpoint in down}
    before = {(endpoint.get("namespace"), endpoint.get("name")): endpoint.get("picks") or 0 for endpoint in previous}
    made = []
    for endpoint in current:
        picks = endpoint.get("picks") or 0
        # A picker that was started again counts from zero.
        gained = picks - before.get((endpoint.get("namespace"), endpoint.get("name")), picks)
        prompt_tokens = endpoint.get("prompt_tokens") or 0
        made.append(
            Row(
                name=str(endpoint.get("name")),
                address=str(endpoint.get("address")),
                running=endpoint.get("running"),
                waiting=endpoint.get("waiting"),
                inflight=endpoint.get("inflight_requests") or 0,
                kv_usage=endpoint.get("kv_usage"),
                prefix_hits=(endpoint.get("matched_tokens") or 0) / prompt_tokens if prompt_tokens else None,
                picks=picks,
                rate=max(0, gained) / seconds if seconds > 0 else 0.0,
                state=_state(endpoint, failing),
            ),
        )
    shown = {row.address for row in made}
    made += [
        Row(endpoint.name, host_port(endpoint), None, None, 0, None, None, 0, 0.0, _DOWN) for endpoint in down if host_port(endpoint) not in shown
    ]
    return sorted(made, key=_natural)


_DOWN = "fails its check"


def _state(endpoint: Mapping[str, Any], failing: set[str]) -> str:
    if endpoint.get("address") in failing:
        return _DOWN
    age = endpoint.get("metrics_age")
    if age is None:
        return "no metrics"
    return "ready" if age < _OLD else f"metrics {age:.0f} s old"


def _natural(row: Row) -> list[tuple[int, str]]:
    """Sort key by which `sim-10` comes after `sim-9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", row.name)]


def busiest(table_rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows at most, in the same order: those with open requests and picks rather than idle ones."""
    chosen = sorted(
        range(len(table_rows)), key=lambda index: (table_rows[index].inflight, table_rows[index].rate, table_rows[index].picks), reverse=True
    )[:count]
    return [table_rows[index] for index in sorted(chosen)]


def render_line(row: Row) -> str:
    """A row as a line of a log."""
    return (
        f"{row.name} {row.address}: running {_count(row.running)}, waiting {_count(row.waiting)}, open {row.inflight}, "
        f"KV {_share(row.kv_usage)}, prefix hits {_share(row.prefix_hits)}, {row.rate:.1f} picks/s ({row.picks} in all), {row.state}"
    )


def render_decision(decision: Mapping[str, Any]) -> str:
    """One decision of the picker as a line: the endpoint chosen, then every candidate with its score, best first."""
    age = (decision.get("time_ms") or 0) / 1e3
    chosen = str(decision.get("destination") or "none").partition(",")[0]
    candidates = (decision.get("explanation") or {}).get("candidates") or []
    why = " | ".join(_render_candidate(candidate) for candidate in candidates[:_SHOWN_CANDIDATES])
    return (
        f"{age:6.1f} s ago  {decision.get('request_id') or '-'}  {decision.get('model') or '-'}  "
        f"{decision.get('prompt_tokens') or 0} tokens → {chosen}  {why}"
    ).rstrip()


def _render_candidate(candidate: Mapping[str, Any]) -> str:
    return (
        f"{candidate.get('endpoint')} scores {candidate.get('total') or 0:.3g} "
        f"({_count(candidate.get('uncached_tokens'))} uncached, {_count(candidate.get('inflight_requests'))} open)"
    )


async def show(metrics: Address, reporter: Reporter, down: DownEndpoints, *, explain: bool) -> None:
    """Show the view until cancelled: a table on a terminal, else log lines when something happened; nothing in JSON mode."""
    if reporter.print_json:
        return
    if reporter.is_terminal:
        await _show_live(metrics, reporter, down, explain=explain)
    else:
        await _show_lines(metrics, reporter, down, explain=explain)


async def _show_lines(metrics: Address, reporter: Reporter, down: DownEndpoints, *, explain: bool) -> None:
    loop = asyncio.get_running_loop()
    previous: list[dict[str, Any]] = []
    looked = loop.time()
    while True:
        await asyncio.sleep(_LINE_INTERVAL)
        try:
            current = await probe.get_json_list(metrics, "/debug/endpoints")
            decisions = await probe.get_json_list(metrics, "/debug/decisions") if explain else []
        except ProbeError:
            # The picker is being started again, which is told elsewhere.
            continue
        now = loop.time()
        lines = rows(current, previous or current, now - looked, down())
        if any(row.rate > 0 or row.inflight for row in lines):
            for row in lines:
                reporter.text(render_line(row))
            for decision in decisions[:_SHOWN_DECISIONS]:
                reporter.text(render_decision(decision))
        previous, looked = current, now


async def _show_live(metrics: Address, reporter: Reporter, down: DownEndpoints, *, explain: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 -- imported when the gateway serves already
    from rich.live import Live  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    previous: list[dict[str, Any]] = []
    looked = loop.time()
    console = Console(file=reporter.output)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        reporter.console = console
        try:
            while True:
                try:
                    current = await probe.get_json_list(metrics, "/debug/endpoints")
                    decisions = await probe.get_json_list(metrics, "/debug/decisions") if explain else []
                except ProbeError as error:
                    live.update(f"The picker does not answer ({error}); Envoy goes on without it.", refresh=True)
                else:
                    now = loop.time()
                    table_rows = rows(current, previous, now - looked, down())
                    live.update(_render_table(table_rows, decisions, console.height, explain=explain), refresh=True)
                    previous, looked = current, now
                await asyncio.sleep(_LIVE_INTERVAL)
        finally:
            reporter.console = None


def _render_table(table_rows: Sequence[Row], decisions: Sequence[Mapping[str, Any]], height: int, *, explain: bool) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415 -- imported when the gateway serves already
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # Each decision takes two lines or so; what does not fit on the screen would be cut off from below.
    others = _FRAME_LINES + (1 + 2 * min(len(decisions), _SHOWN_DECISIONS) if explain else 0)
    shown = busiest(table_rows, max(_FEWEST_ROWS, height - others))
    hidden = len(table_rows) - len(shown)
    table = Table(caption=f"and {hidden} less busy endpoints; Ctrl-C stops the gateway" if hidden else "Ctrl-C stops the gateway")
    for column in ("endpoint", "address", "state"):
        table.add_column(column)
    for column in ("running", "waiting", "open", "KV usage", "prefix hits", "picks/s", "picks"):
        table.add_column(column, justify="right")
    for row in shown:
        table.add_row(
            row.name,
            row.address,
            row.state,
            _count(row.running),
            _count(row.waiting),
            str(row.inflight),
            _share(row.kv_usage),
            _share(row.prefix_hits),
            f"{row.rate:.1f}",
            str(row.picks),
        )
    if not explain:
        return table
    lines = [render_decision(decision) for decision in decisions[:_SHOWN_DECISIONS]] or ["no decision yet"]
    return Group(table, Text("last decisions", style="bold"), Text("\n".join(lines)))


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
