"""`warmroute up`: a gateway on this machine, with one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from warmroute.local.settings import GatewaySettings, KvEventsOptions, SimSettings

_POOL = "Model servers"
_PLACE = "Addresses and limits"
_PICKING = "Picking"
_OUTPUT = "Output"


def up(  # noqa: PLR0917 -- one parameter an option; typer passes them by name
    sim: Annotated[int, typer.Option("--sim", min=0, max=1000, metavar="N", rich_help_panel=_POOL, help="Start N simulated model servers.")] = 0,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", metavar="URL", rich_help_panel=_POOL, help="A model server, such as http://10.0.0.5:8000. Repeatable."),
    ] = None,
    endpoints: Annotated[
        Path | None,
        typer.Option(
            "--endpoints",
            metavar="FILE",
            rich_help_panel=_POOL,
            help="File with the model servers (YAML or JSON: `endpoints:` a list of name, address, port); watched for changes.",
        ),
    ] = None,
    sim_model: Annotated[
        list[str] | None,
        typer.Option("--sim-model", metavar="NAME", rich_help_panel=_POOL, help="Model that the simulated servers offer. Repeatable."),
    ] = None,
    sim_preset: Annotated[
        str, typer.Option("--sim-preset", metavar="PRESET", rich_help_panel=_POOL, help="Speed of the simulated servers: h100-8b, h100-70b, instant.")
    ] = "",
    sim_port: Annotated[
        int,
        typer.Option(
            "--sim-port", min=0, max=65535, metavar="PORT", rich_help_panel=_POOL, help="First of N ports of the simulated servers; 0: free ones."
        ),
    ] = 0,
    health_path: Annotated[
        str,
        typer.Option(
            "--health-path",
            metavar="PATH",
            rich_help_panel=_POOL,
            help="Page that a healthy model server answers with 200; those that do not are left out. '' switches checks off.",
        ),
    ] = "/health",
    listen: Annotated[
        str, typer.Option("--listen", metavar="IP", rich_help_panel=_PLACE, help="Address to take requests on; 0.0.0.0 for all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, metavar="PORT", rich_help_panel=_PLACE, help="Port to take requests on; 0 picks free ones for everything."
        ),
    ] = 8080,
    admin_port: Annotated[
        int | None,
        typer.Option(
            "--admin-port",
            min=0,
            max=65535,
            metavar="PORT",
            rich_help_panel=_PLACE,
            help="Port of Envoy's admin page. [default: 9901, or free with --port 0]",
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=0,
            max=65535,
            metavar="PORT",
            rich_help_panel=_PLACE,
            help="Port of the picker's metrics. [default: 9090, or free with --port 0]",
        ),
    ] = None,
    max_body: Annotated[
        str, typer.Option("--max-body", metavar="SIZE", rich_help_panel=_PLACE, help="Longest request body; longer ones get 413.")
    ] = "64Mi",
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=256, metavar="N", rich_help_panel=_PLACE, help="Worker threads of Envoy.")
    ] = 1,
    ready_timeout: Annotated[
        float,
        typer.Option("--ready-timeout", min=0.1, metavar="SECONDS", rich_help_panel=_PLACE, help="How long to wait at start for a request to pass."),
    ] = 30.0,
    kv_events: Annotated[
        str | None,
        typer.Option(
            "--kv-events",
            metavar="[ADDRESS]",
            rich_help_panel=_PICKING,
            help="Go by what the model servers tell of their caches: their ZMQ publishers, such as 'tcp://{address}:5557' "
            "(counting up with the servers behind one address). With --sim no address is needed.",
        ),
    ] = None,
    kv_events_replay: Annotated[
        int,
        typer.Option(
            "--kv-events-replay",
            min=0,
            max=65535,
            metavar="PORT",
            rich_help_panel=_PICKING,
            help="Port at which they replay what was missed; 0: none.",
        ),
    ] = 0,
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer",
            metavar="PATH_OR_URL",
            rich_help_panel=_PICKING,
            help="For --kv-events: folder with the model's tokenizer.json, or a vLLM server that renders prompts. [default with --sim: its first server]",
        ),
    ] = "",
    picker_host: Annotated[
        str,
        typer.Option("--picker-host", metavar="HOST", rich_help_panel=_PICKING, help="Host of the picker: native or grpcio. [default: the picker's]"),
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            metavar="POLICY",
            rich_help_panel=_PICKING,
            help="Policy of the picker by its name, such as reference or round-robin. [default: marginal-latency]",
        ),
    ] = "",
    config_file: Annotated[
        Path | None, typer.Option("--config-file", metavar="FILE", rich_help_panel=_PICKING, help="EndpointPickerConfig of the picker.")
    ] = None,
    plugin_module: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin-module", metavar="MODULE", rich_help_panel=_PICKING, help="Python module or .py file with scorers and filters. Repeatable."
        ),
    ] = None,
    plugin_timeout: Annotated[
        str,
        typer.Option(
            "--plugin-timeout", metavar="DURATION", rich_help_panel=_PICKING, help="How long a decision waits for such a plugin. [default: 10ms]"
        ),
    ] = "",
    allow_experimental_plugins: Annotated[
        bool, typer.Option("--allow-experimental-plugins", rich_help_panel=_PICKING, help="Let the configuration name plugins that are alpha.")
    ] = False,
    response_sample: Annotated[
        str,
        typer.Option(
            "--response-sample",
            metavar="SHARE",
            rich_help_panel=_PICKING,
            help="Share of the streamed answers, from 0 to 1, that the picker watches to learn from their first tokens. [default: 0.02]",
        ),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", rich_help_panel=_PICKING, help="Keep the last decisions and their scores, and show them.")
    ] = False,
    record_decisions: Annotated[
        Path | None,
        typer.Option(
            "--record-decisions",
            metavar="FILE",
            rich_help_panel=_OUTPUT,
            help="Write the decisions into this new file, for `warmroute replay`: block hashes, lengths and loads, no text of prompts.",
        ),
    ] = None,
    record_sample: Annotated[
        str, typer.Option("--record-sample", metavar="SHARE", rich_help_panel=_OUTPUT, help="Share of them that is written. [default: 1]")
    ] = "",
    record_max_bytes: Annotated[
        str, typer.Option("--record-max-bytes", metavar="SIZE", rich_help_panel=_OUTPUT, help="Size at which that ends. [default: 256Mi]")
    ] = "",
    demo: Annotated[bool, typer.Option("--demo", rich_help_panel=_OUTPUT, help="Send a few requests through the gateway when it is up.")] = False,
    access_log: Annotated[
        Path | None,
        typer.Option(
            "--access-log",
            metavar="FILE",
            rich_help_panel=_OUTPUT,
            help="Write one JSON line for each request. Grows with them: rotate it, then POST /reopen_logs to the admin page.",
        ),
    ] = None,
    log_dir: Annotated[
        Path | None,
        typer.Option("--log-dir", metavar="DIR", rich_help_panel=_OUTPUT, help="Keep the logs of each run in a folder of its own in DIR."),
    ] = None,
    print_json: Annotated[bool, typer.Option("--print-json", rich_help_panel=_OUTPUT, help="Tell what happens as JSON lines, for programs.")] = False,
) -> None:
    """Start a gateway on this machine: Envoy, the endpoint picker and, with --sim, a pool of simulated model servers.

    It waits until a request passes, prints where to send requests, and runs until Ctrl-C.
    """
    from warmroute.local import gateway  # noqa: PLC0415 -- `warmroute --help` must stay fast
    from warmroute.local.errors import GatewayError  # noqa: PLC0415
    from warmroute.local.settings import GatewaySettings, PickerSettings, parse_size  # noqa: PLC0415

    try:
        # With --port 0 the user wants no collision at all.
        settings = GatewaySettings(
            sim=_sim_settings(sim, sim_port, tuple(sim_model or ()), sim_preset),
            endpoints=tuple(endpoint or ()),
            endpoints_file=endpoints,
            listen=listen,
            port=port,
            admin_port=_default_port(admin_port, 9901, port),
            metrics_port=_default_port(metrics_port, 9090, port),
            max_body=parse_size(max_body, "--max-body"),
            concurrency=concurrency,
            health_path=health_path,
            access_log=access_log,
            log_directory=log_dir,
            ready_timeout=ready_timeout,
            picker=PickerSettings(
                picker_host,
                policy,
                config_file,
                explain,
                tuple(plugin_module or ()),
                plugin_timeout,
                allow_experimental_plugins,
                response_sample,
                record_decisions,
                record_sample,
                record_max_bytes,
            ),
            kv_events=_kv_events(kv_events, kv_events_replay, tokenizer),
            demo=demo,
            print_json=print_json,
        )
        _check_pool(settings)
        settings.check()
        gateway.run(settings)
    except GatewayError as error:
        typer.echo(f"warmroute up: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _default_port(given: int | None, default: int, gateway_port: int) -> int:
    if given is not None:
        return given
    return default if gateway_port else 0


def _sim_settings(replicas: int, port: int, models: tuple[str, ...], preset: str) -> "SimSettings | None":
    from warmroute.local.errors import UsageError  # noqa: PLC0415 -- `warmroute --help` must stay fast
    from warmroute.local.settings import SimSettings  # noqa: PLC0415

    if replicas:
        if port + replicas - 1 > 65_535:  # noqa: PLR2004 -- the highest TCP port
            message = f"--sim-port {port}: {replicas} ports from there on do not exist."
            raise UsageError(message)
        return SimSettings(replicas, port, models, preset)
    if port or models or preset:
        message = "--sim-port, --sim-model and --sim-preset need --sim N, which starts N simulated model servers."
        raise UsageError(message)
    return None


def _kv_events(address: str | None, replay_port: int, tokenizer: str) -> "KvEventsOptions | None":
    from warmroute.local.errors import UsageError  # noqa: PLC0415 -- `warmroute --help` must stay fast
    from warmroute.local.settings import KvEventsOptions  # noqa: PLC0415

    if address is not None:
        return KvEventsOptions(address, replay_port, tokenizer)
    if replay_port or tokenizer:
        message = "--kv-events-replay and --tokenizer need --kv-events, which makes use of them."
        raise UsageError(message)
    return None


def _check_pool(settings: "GatewaySettings") -> None:
    from warmroute.local.errors import UsageError  # noqa: PLC0415 -- `warmroute --help` must stay fast

    given = sum((settings.sim is not None, bool(settings.endpoints), settings.endpoints_file is not None))
    if given == 1:
        return
    message = (
        "Say where the model servers are: --sim N simulates some, --endpoint URL (repeatable) or --endpoints FILE name real ones."
        if given == 0
        else "Give only one of --sim, --endpoint and --endpoints: a gateway has one pool of model servers."
    )
    raise UsageError(message)
