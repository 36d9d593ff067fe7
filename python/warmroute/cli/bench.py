"""`warmroute bench`: the floor of each host, for the measurements in bench/."""

import asyncio
import json
import signal
from enum import StrEnum
from typing import Annotated

import typer

from warmroute._core import EchoExchange
from warmroute.config.errors import UsageError
from warmroute.host.address import ListenError, parse_address
from warmroute.host.base import ExtProcHost
from warmroute.host.grpcio_host import GrpcioHost
from warmroute.host.native import NativeHost


class Host(StrEnum):
    """Which host echoes."""

    NATIVE = "native"
    GRPCIO = "grpcio"


bench = typer.Typer(help="Parts of the measurements in bench/.", no_args_is_help=True, add_completion=False)


@bench.callback()
def _group() -> None:
    """Parts of the measurements in bench/."""


@bench.command()
def echo(
    host: Annotated[Host, typer.Option(help="Which host echoes.")] = Host.NATIVE,
    address: Annotated[str, typer.Option(help="HOST:PORT (port 0 picks a free one) or unix:/path.")] = "127.0.0.1:0",
    threads: Annotated[int, typer.Option(help="Threads of the native host; 0: one a core.", min=0)] = 0,
    destination: Annotated[list[str] | None, typer.Option(help="HOST:PORT to name as destination; repeated, in turn. Native host only.")] = None,
) -> None:
    """Answer ext_proc without deciding anything: same transport, no engine. Prints the address as one JSON line when it serves."""
    import uvloop  # noqa: PLC0415 - `--help` needs no event loop

    if destination and host is not Host.NATIVE:
        typer.echo("warmroute bench echo: --destination needs --host native", err=True)
        raise typer.Exit(2)
    try:
        listen = parse_address(address)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_echo(host, listen, threads, destination or []))
    except (UsageError, ListenError) as error:
        typer.echo(f"warmroute bench echo: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error


async def _echo(host: Host, address: str, threads: int, destinations: list[str]) -> None:
    server: ExtProcHost
    if host is Host.NATIVE:
        server = NativeHost(None, address, threads=threads, flag="--address", echo_destinations=destinations)
    else:
        server = GrpcioHost(EchoExchange, address, flag="--address")
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    typer.echo(json.dumps({"event": "serving", "grpc": server.address}))
    await stop.wait()
    await server.stop(0.0)
