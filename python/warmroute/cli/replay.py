"""`warmroute replay`: what another policy would have done with the same traffic, in simulated time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

_USAGE, _INTERRUPTED = 2, 130
# Of a table that goes into a file: as wide as its columns.
_FILE_WIDTH = 170


def replay(
    trace: Annotated[
        list[str] | None,
        typer.Argument(help="Mooncake-format or recorded file (JSON lines), or a workload's name (--list); several are ranked over."),
    ] = None,
    *,
    policy: Annotated[
        list[str] | None, typer.Option(help="Policy's name or EndpointPickerConfig file; repeat for more. The first is the base.")
    ] = None,
    load: Annotated[str | None, typer.Option(help="Shares of the pool's capacity: 0.5,0.8,0.95.")] = None,
    rate: Annotated[str | None, typer.Option(help="Requests/s instead: 100,200.")] = None,
    capacity: Annotated[float | None, typer.Option(help="Requests/s at load 1 (default: found by search).")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds: 1,2,3 or 1-3. Tables show medians over them.")] = "1",
    jobs: Annotated[int | None, typer.Option(help="Simulations at once (default: one a core).", min=1)] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas (default: the workload's, or 8).")] = None,
    preset: Annotated[str | None, typer.Option(help="Cost model of the replicas: h100-8b, h100-70b.")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="Every second replica half as fast.")] = False,
    replica_speeds: Annotated[str | None, typer.Option(help="A replica for each speed instead: 1,1,0.5.")] = None,
    num_gpu_blocks: Annotated[int | None, typer.Option(help="KV blocks of a replica (default: the preset's).", min=2)] = None,
    block_size: Annotated[int | None, typer.Option(help="Tokens per KV block (default: the preset's).", min=1)] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Requests that run at once on a replica.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens computed per step.", min=1)] = 8192,
    max_loras: Annotated[int, typer.Option(help="Adapters that run at once on a replica; 0: any number.", min=0)] = 4,
    requests: Annotated[int | None, typer.Option(help="Requests: of a workload as many as this, of a file the first.")] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            help="Go through the trace so often, each time with new prompts (default: until arrivals take a minute, unless --requests is given)."
        ),
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="NAME=VALUE of a generated workload; repeat for more.")] = None,
    signals: Annotated[str, typer.Option(help="What tells the gateway of progress: first_token, counters (scraped) or ends.")] = "first_token",
    scrape_seconds: Annotated[float, typer.Option(help="Seconds between two scrapes of a replica.")] = 0.05,
    warm_up: Annotated[float, typer.Option(help="Share of the requests, the first ones, that statistics leave out.")] = 0.15,
    csv: Annotated[Path | None, typer.Option(help="Write every number here, one line a run; - for stdout.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write pictures (PNG) into this folder. Needs the extra `plots`.")] = None,
    write_trace: Annotated[Path | None, typer.Option(help="Write the trace of the first seed here, in Mooncake's format, and stop.")] = None,
    learnt: Annotated[bool, typer.Option("--learnt", help="Show what the gateway had learnt at the end, too.")] = False,
    suite: Annotated[bool, typer.Option("--suite", help="Rank the policies over the policy study's 16 workloads.")] = False,
    claim: Annotated[bool, typer.Option("--claim", help="Compare as the published claim does: ShareGPT lengths, 100 to 1,000 requests/s.")] = False,
    self_check: Annotated[bool, typer.Option("--self-check", help="Compare the simulation with `warmroute sim` under real load (~20 s).")] = False,
    explain_constants: Annotated[bool, typer.Option("--explain-constants", help="Show the simulation's constants and their sources.")] = False,
    list_workloads: Annotated[bool, typer.Option("--list", help="Show the workloads.")] = False,
    allow_experimental_plugins: Annotated[bool, typer.Option("--allow-experimental-plugins", help="Allow alpha plugins.")] = False,
) -> None:
    """Simulate a pool of replicas over a trace and compare policies: latency, throughput, cache hits, imbalance.

    The engine that picks is the picker's own. Results are the same for the same seeds.
    Examples: `warmroute replay shared8 --policy round-robin --policy marginal-latency --load 0.5,0.8`,
    `warmroute replay conversation_trace.jsonl --policy reference --policy mine.yaml --csv out.csv --plot figures`.
    """
    # Imported here: `warmroute --help` needs neither the engine nor rich.
    from rich.console import Console  # noqa: PLC0415

    from warmroute.config.errors import ConfigError, UsageError  # noqa: PLC0415
    from warmroute.replay import command  # noqa: PLC0415
    from warmroute.replay.constants import explain  # noqa: PLC0415
    from warmroute.replay.options import Asked, Output, Traffic  # noqa: PLC0415
    from warmroute.replay.workloads import SUITE  # noqa: PLC0415

    # Names of files may have brackets in them, which are no markup.
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, markup=False, highlight=False)
    traces = [*(trace or []), *(SUITE if suite else ())]
    asked = Asked(
        trace=traces[0] if traces else None,
        more=traces[1:],
        policy=policy or [],
        replicas=replicas,
        preset=preset,
        mixed=mixed,
        replica_speeds=replica_speeds,
        num_gpu_blocks=num_gpu_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_loras=max_loras,
        requests=requests,
        repeat=repeat,
        parameter=parameter or [],
        signals=signals,
        scrape_seconds=scrape_seconds,
        warm_up=warm_up,
        allow_experimental=allow_experimental_plugins,
    )
    try:
        if explain_constants:
            explain(console)
        elif list_workloads:
            command.list_workloads(console)
        elif self_check:
            command.self_check(console, asked, rate, seeds)
        elif write_trace is not None:
            command.write_trace(asked, seeds, write_trace)
        else:
            traffic = Traffic(load=load, rate=rate, capacity=capacity, seeds=seeds, claim=claim)
            command.compare(console, asked, traffic, Output(csv, plot, learnt), jobs or os.cpu_count() or 1)
    except (ConfigError, UsageError) as error:
        prefix = "" if isinstance(error, ConfigError) else "warmroute replay: "
        sys.stderr.write(f"{prefix}{error}\n")
        raise typer.Exit(_USAGE) from error
    except KeyboardInterrupt as error:
        sys.stderr.write("warmroute replay: cancelled\n")
        raise typer.Exit(_INTERRUPTED) from error
