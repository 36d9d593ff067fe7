"""`warmroute sim`: simulated model servers."""

from __future__ import annotations

from typing import Annotated

import typer


def sim(
    *,
    replicas: Annotated[int, typer.Option(help="Model servers to run in this process.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="First port; the others follow. 0: free ports.")] = 8000,
    model: Annotated[list[str] | None, typer.Option(help="Name under which the model is served (default: sim); repeat for aliases.")] = None,
    engine: Annotated[str, typer.Option(help="Whose metrics page: vllm, sglang, trtllm-serve, triton-tensorrt-llm.")] = "vllm",
    preset: Annotated[str, typer.Option(help="Cost model: h100-8b, h100-70b, instant.")] = "h100-8b",
    speed: Annotated[float, typer.Option(help="How many times faster than the preset time runs.")] = 1.0,
    block_size: Annotated[int | None, typer.Option(help="Tokens per KV block (default: the preset's).")] = None,
    num_gpu_blocks: Annotated[int | None, typer.Option(help="KV blocks (default: the preset's).")] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Requests that run at once.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens computed per step.")] = 8192,
    max_model_len: Annotated[
        int | None,
        typer.Option(help="Tokens of prompt and answer together (default: 131072, or what the KV cache holds)."),
    ] = None,
    output_tokens: Annotated[
        str | None,
        typer.Option(help="Natural length of answers: N, uniform:LOW:HIGH or lognormal:MEAN[:SIGMA]."),
    ] = None,
    lora: Annotated[list[str] | None, typer.Option(help="LoRA adapter loaded at start; repeat for more.")] = None,
    max_loras: Annotated[int, typer.Option(help="Adapters that run at once.")] = 4,
    kv_events: Annotated[str | None, typer.Option(help="Publish KV events here, tcp://*:5557; one port a replica.")] = None,
    kv_events_form: Annotated[
        str | None,
        typer.Option(help="What KV events look like: map (vLLM), array (older vLLM), sglang, bytes (vLLM with whole hashes). Default: the engine's."),
    ] = None,
    kv_events_replay: Annotated[str | None, typer.Option(help="Replay KV events here, tcp://*:5657; one port a replica.")] = None,
    kv_events_buffer: Annotated[int, typer.Option(help="KV event messages kept for replay.")] = 10_000,
    cpu_blocks: Annotated[int, typer.Option(help="KV blocks that the host's memory holds copies of. 0: none.")] = 0,
    cpu_offload: Annotated[str, typer.Option(help="When a block is copied there: stored (at once, as vLLM does) or evicted.")] = "stored",
    data_parallel: Annotated[
        bool, typer.Option("--data-parallel", help="The replicas are data-parallel ranks of one server: KV events and metrics name the rank.")
    ] = False,
    metrics_padding: Annotated[int, typer.Option(help="Fill the metrics page up to this many bytes.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="Fault at start: [REPLICA=]KIND[:PROBABILITY], KIND refuse, 500, 503, reset, reset-mid-stream, hang or slow; "
            "of KV events, events-drop:N, events-lose:N, events-duplicate:N or events-silent."
        ),
    ] = None,
    request_log: Annotated[int, typer.Option(help="Requests remembered per replica for /sim/requests.")] = 0,
    print_json: Annotated[bool, typer.Option("--print-json", help="One JSON line on stdout when ready.")] = False,
    die_with_parent: Annotated[bool, typer.Option("--die-with-parent", help="End when the parent process does.")] = False,
) -> None:
    """Run simulated model servers: OpenAI, Anthropic and vLLM APIs, a real prefix cache, and the metrics of an engine.

    Examples: `warmroute sim --replicas 4 --port 0`, `warmroute sim --preset h100-70b --fault 0=500:0.1`.
    """
    # Imported here: `warmroute --help` need not load an HTTP server.
    from warmroute.parent import die_with_parent as tie_to_parent  # noqa: PLC0415
    from warmroute.sim.config import SimConfig, SimConfigError, parse_faults  # noqa: PLC0415
    from warmroute.sim.engine import EngineLimitError  # noqa: PLC0415
    from warmroute.sim.output import OutputLengthError, parse_output_length  # noqa: PLC0415
    from warmroute.sim.process import run  # noqa: PLC0415

    try:
        if die_with_parent:
            tie_to_parent()
        config = SimConfig(
            models=tuple(model or ["sim"]),
            engine=engine,
            preset=preset,
            speed=speed,
            block_size=block_size,
            num_gpu_blocks=num_gpu_blocks,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            output_length=None if output_tokens is None else parse_output_length(output_tokens),
            loras=tuple(lora or ()),
            max_loras=max_loras,
            kv_events=kv_events,
            kv_events_form=kv_events_form,
            kv_events_replay=kv_events_replay,
            kv_events_buffer=kv_events_buffer,
            cpu_blocks=cpu_blocks,
            cpu_offload=cpu_offload,
            data_parallel=data_parallel,
            metrics_padding=metrics_padding,
            request_log=request_log,
            faults=parse_faults(fault or ()),
        )
        run(replicas, config, host=host, port=port, print_json=print_json)
    except (SimConfigError, EngineLimitError, OutputLengthError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        typer.echo(f"warmroute sim: {text}", err=True)
        raise typer.Exit(2) from error
