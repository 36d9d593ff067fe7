"""One run of `warmroute up`: starts the processes, waits until a request passes, and keeps them until the end."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from warmroute.discovery.endpoints import EndpointRecord
from warmroute.local import bootstrap, catalogue, config_file, demo, endpoints, envoy, fail_open, health, kv_events, kv_watch, publish, view
from warmroute.local.child import Child, ChildSpec
from warmroute.local.errors import GatewayError, UsageError
from warmroute.local.ports import PortBook
from warmroute.local.probe import Address, ProbeError
from warmroute.local.publish import EndpointPublisher
from warmroute.local.readiness import Readiness
from warmroute.local.report import Reporter
from warmroute.local.settings import FALLBACKS, GatewaySettings, SimSettings
from warmroute.local.summary import Summary
from warmroute.local.supervisor import Supervisor

_LOOPBACK = "127.0.0.1"
#: The picker has nothing to drain once Envoy is gone.
_PICKER_DRAIN = "0s"


class Gateway:
    """The gateway while it runs."""

    def __init__(self, settings: GatewaySettings, reporter: Reporter, directory: Path) -> None:
        """Find binary, ports and endpoints: what the user asked for is checked before anything is started.

        Raises:
            GatewayError: something of it is impossible.

        """
        self._settings = settings
        self._reporter = reporter
        self._directory = directory
        self._started = time.monotonic()
        self._binary = envoy.find_binary()
        book = PortBook()
        self._public_port = book.claim(settings.port, settings.listen, "the gateway", "--port")
        admin_port = book.claim(settings.admin_port, _LOOPBACK, "Envoy's admin page", "--admin-port")
        metrics_port = book.claim(settings.metrics_port, _LOOPBACK, "the picker's metrics", "--metrics-port")
        # Fixed for the whole run: a picker that is started again is found by Envoy at the same address.
        self._picker_port = book.find(_LOOPBACK, "the picker")
        self._picker_health_port = book.find(_LOOPBACK, "the picker's health")
        self.address = Address(_reachable(settings.listen), self._public_port)
        self.admin = Address(_LOOPBACK, admin_port)
        self.metrics = Address(_LOOPBACK, metrics_port)
        self._sim_port = _claim_sim_ports(settings.sim, book) if settings.sim else 0
        self._kv_events = self._kv_event_publishers(settings, book)
        self._initial_problems: tuple[str, ...] = ()
        self._initial = self._with_kv_events(self._initial_endpoints())
        self._publisher = EndpointPublisher(directory, self._known_to_envoy, self._known_to_picker)
        self._supervisor = Supervisor(directory, self._on_restart)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal arrives.

        Raises:
            GatewayError: it could not start, or a process died.

        """
        self._handle_signals()
        try:
            work = asyncio.create_task(self._supervisor.unless_failed(self._serve()))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                stopped.cancel()
                work.result()
            else:
                work.cancel()
                await asyncio.wait({work})
                self._reporter.event("stopping", "Stopping.")
        finally:
            # Also ends the watch over the endpoints file.
            self._stop.set()
            await self._supervisor.stop()

    async def _serve(self) -> None:
        settings = self._settings
        self._publisher.write_initial(self._initial, for_envoy=settings.sim is None)
        if self._writes_config:
            self._write_config()
        (self._directory / "envoy.json").write_text(bootstrap.render(self._wiring()), encoding="utf-8")
        # Side by side: each takes a few hundred milliseconds to be ready.
        sim = await self._supervisor.start(self._sim(settings.sim)) if settings.sim else None
        picker = await self._supervisor.start(self._picker())
        await self._supervisor.start(
            ChildSpec("envoy", envoy.arguments(self._binary, self._directory / "envoy.json", settings.concurrency)),
        )
        readiness = Readiness(self.address, self.admin, settings.ready_timeout)
        if sim is not None:
            await readiness.announced(sim)
            self._publisher.write_envoy(self._initial)
        await readiness.announced(picker)
        models = await readiness.request_passes([endpoints.host_port(endpoint) for endpoint in self._initial])
        if sim is None:
            models = await self._models_of_all(models)
        elif models:
            await readiness.completion_passes(models[0])
        self._report_ready(models)
        if settings.demo:
            await self._demonstrate(models)
        await asyncio.gather(
            view.show(self.metrics, self._reporter, lambda: self._publisher.down, explain=settings.picker.explain),
            fail_open.watch(self.admin, self._reporter),
            health.watch(self.admin, self._publisher, self._reporter, settings.health_path),
            self._follow_file(settings.endpoints_file),
            self._follow_config(),
            self._follow_kv_events(),
            self._stop.wait(),
        )

    async def _models_of_all(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """The models of all endpoints, where one answered for the pool; told when they differ."""
        found = await catalogue.ask([Address(endpoint.address, endpoint.port) for endpoint in self._initial])
        if differing := catalogue.describe_difference(found):
            self._reporter.event("models-differ", differing)
        return tuple(dict.fromkeys((*models, *(model for served in found.values() for model in served))))

    def _initial_endpoints(self) -> tuple[EndpointRecord, ...]:
        settings = self._settings
        if settings.sim is not None:
            return endpoints.from_addresses(((_LOOPBACK, self._sim_port + index) for index in range(settings.sim.replicas)), "sim")
        if settings.endpoints_file is not None:
            parsed = endpoints.read_file(settings.endpoints_file)
            self._initial_problems = parsed.problems
            for problem in parsed.problems:
                self._reporter.event("endpoint-skipped", problem)
            return parsed.endpoints
        return endpoints.from_urls(settings.endpoints)

    @staticmethod
    def _kv_event_publishers(settings: GatewaySettings, book: PortBook) -> kv_events.Publishers | None:
        options = settings.kv_events
        if options is None:
            return None
        if settings.sim is not None:
            return kv_events.SimulatedPublishers(book, settings.sim.replicas)
        return kv_events.NamedPublishers(options.template, options.replay_port)

    def _with_kv_events(self, given: tuple[EndpointRecord, ...]) -> tuple[EndpointRecord, ...]:
        return given if self._kv_events is None else self._kv_events.label(given)

    @property
    def _writes_config(self) -> bool:
        return self._kv_events is not None and self._settings.picker.config_file is None

    @property
    def _config_file(self) -> Path:
        return self._directory / "picker.json"

    @property
    def _tokenizer(self) -> str:
        """Who makes token ids; empty where the user's own configuration says it, or nothing needs them."""
        options = self._settings.kv_events
        if options is None or not self._writes_config:
            return ""
        # The first simulated server, which renders prompts as a vLLM server does.
        return options.tokenizer or f"http://{endpoints.host_port(self._initial[0])}"

    def _write_config(self) -> None:
        kv_events.write_configuration(self._config_file, self._tokenizer, self._settings.picker.policy)

    def _wiring(self) -> bootstrap.Wiring:
        settings = self._settings
        return bootstrap.Wiring(
            listen=settings.listen,
            port=self._public_port,
            admin_port=self.admin.port,
            picker_port=self._picker_port,
            endpoints_file=self._publisher.envoy_file,
            max_body=settings.max_body,
            health_path=settings.health_path,
            access_log=settings.access_log,
        )

    def _picker(self) -> ChildSpec:
        options = self._settings.picker
        arguments = [
            *_command("epp"),
            f"--endpoints={self._publisher.picker_file}",
            f"--grpc-address={_LOOPBACK}",
            f"--grpc-port={self._picker_port}",
            f"--grpc-health-port={self._picker_health_port}",
            f"--metrics-port={self.metrics.port}",
            f"--max-endpoints={FALLBACKS}",
            f"--max-body={self._settings.max_body}",
            f"--drain-timeout={_PICKER_DRAIN}",
            "--secure-serving=false",
            "--print-ready",
        ]
        if options.host:
            arguments.append(f"--host={options.host}")
        if self._writes_config:
            arguments.append(f"--config-file={self._config_file}")
        elif options.policy:
            arguments.append(f"--policy={options.policy}")
        if options.config_file is not None:
            arguments.append(f"--config-file={options.config_file}")
        arguments += [f"--plugin-module={module}" for module in options.plugin_modules]
        if options.plugin_timeout:
            arguments.append(f"--plugin-timeout={options.plugin_timeout}")
        if options.response_sample:
            arguments.append(f"--response-sample={options.response_sample}")
        if options.allow_experimental:
            arguments.append("--allow-experimental-plugins")
        if options.explain:
            arguments.append("--explain")
        return ChildSpec("picker", [*arguments, *options.recording()], restart=True)

    def _sim(self, settings: SimSettings) -> ChildSpec:
        arguments = [*_command("sim"), f"--replicas={settings.replicas}", f"--host={_LOOPBACK}", f"--port={self._sim_port}", "--print-json"]
        arguments += [f"--model={model}" for model in settings.models]
        if isinstance(self._kv_events, kv_events.SimulatedPublishers):
            arguments += self._kv_events.arguments()
        if settings.preset:
            arguments.append(f"--preset={settings.preset}")
        return ChildSpec("sim", arguments)

    async def _known_to_envoy(self) -> set[str]:
        return await publish.envoy_endpoints(self.admin)

    async def _known_to_picker(self) -> set[str]:
        return await publish.picker_endpoints(self.metrics)

    def _report_ready(self, models: tuple[str, ...]) -> None:
        summary = Summary(
            gateway=self.address.url,
            models=models,
            admin=self.admin.url,
            metrics=self.metrics.url,
            endpoints=tuple(endpoints.host_port(endpoint) for endpoint in self._initial),
            pids=self._supervisor.pids(),
            logs=str(self._directory),
            tokenizer=self._tokenizer,
            seconds=round(time.monotonic() - self._started, 3),
        )
        if self._reporter.print_json:
            self._reporter.event("ready", "The gateway serves.", **summary.to_json())
        else:
            self._reporter.text(summary.render())

    async def _demonstrate(self, models: tuple[str, ...]) -> None:
        if not models:
            message = "--demo needs a model to ask, and no endpoint serves one."
            raise GatewayError(message)
        self._reporter.text("A few requests through the gateway:")
        results = demo.run(self.address, models[0])
        try:
            while (result := await asyncio.to_thread(next, results, None)) is not None:
                self._reporter.text(result.render())
        except ProbeError as error:
            message = f"The demonstration failed: {error}"
            raise GatewayError(message) from error
        self._reporter.text("")

    async def _follow_file(self, path: Path | None) -> None:
        if path is None:
            return
        # The first look gives what the gateway started with, unless the file changed since.
        problems = self._initial_problems
        async for change in publish.watch_file(path, self._stop):
            if isinstance(change, UsageError):
                self._reporter.event("endpoints-refused", f"{change} The endpoints stay as they were.")
                continue
            changed = self._with_kv_events(change.endpoints)
            if changed == self._publisher.current and change.problems == problems:
                continue
            problems = change.problems
            for problem in problems:
                self._reporter.event("endpoint-skipped", problem)
            await self._publisher.publish(changed)
            addresses = [endpoints.host_port(endpoint) for endpoint in change.endpoints]
            self._reporter.event("endpoints-changed", f"Endpoints now: {', '.join(addresses) or 'none'}.", endpoints=addresses)

    async def _follow_config(self) -> None:
        if self._settings.picker.config_file is not None:
            await config_file.watch(self.metrics, self._reporter)

    async def _follow_kv_events(self) -> None:
        if self._kv_events is not None:
            await kv_watch.watch(self.metrics, self._reporter)

    def _on_restart(self, child: Child, status: str) -> None:
        self._reporter.event(
            "restarted",
            f"The {child.spec.name} {status} and was started again; Envoy went on without it meanwhile.",
            name=child.spec.name,
            pid=child.pid,
        )

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            # Asked twice: no more grace.
            self._supervisor.kill()
        self._stop.set()


async def serve(settings: GatewaySettings) -> None:
    """Run the gateway until a signal arrives.

    Raises:
        GatewayError: it could not start, or a process died.

    """
    reporter = Reporter(print_json=settings.print_json)
    directory = _private_directory(settings.log_directory)
    keep = False
    try:
        await Gateway(settings, reporter, directory).run()
    except Exception as error:
        # The logs of a failure are kept when there are any, and always named. That nobody reads what we print (`| head`) is no failure.
        keep = not isinstance(error, BrokenPipeError) and any(file.stat().st_size for file in directory.glob("*.log"))
        if keep and str(directory) not in str(error):
            reporter.event("logs-kept", f"Logs: {directory}", logs=str(directory))
        raise
    finally:
        if not keep:
            _remove(directory, keep_logs=settings.log_directory is not None)


def _private_directory(wanted: Path | None) -> Path:
    try:
        if wanted is None:
            return Path(tempfile.mkdtemp(prefix="warmroute-"))
        wanted.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=wanted))
    except OSError as error:
        message = f"Cannot make a folder for logs and configuration: {error}."
        raise GatewayError(message) from error


def _remove(directory: Path, *, keep_logs: bool) -> None:
    if keep_logs:
        # Gone when nothing was logged, else left alone.
        with suppress(OSError):
            directory.rmdir()
    else:
        shutil.rmtree(directory, ignore_errors=True)


def _claim_sim_ports(settings: SimSettings, book: PortBook) -> int:
    if settings.port == 0:
        return book.find(_LOOPBACK, "the simulated model servers", settings.replicas)
    for index in range(settings.replicas):
        book.claim(settings.port + index, _LOOPBACK, f"simulated model server {index}", "--sim-port")
    return settings.port


def _command(subcommand: str) -> list[str]:
    return [sys.executable, "-m", "warmroute", subcommand]


def _reachable(listen: str) -> str:
    """Address under which this machine reaches a listener."""
    return {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(listen, listen)


def run(settings: GatewaySettings) -> None:
    """Blocking form of `serve`.

    Raises:
        GatewayError: as `serve`.

    """
    if os.name != "posix":
        message = "`warmroute up` runs on Linux and macOS only."
        raise UsageError(message)
    _raise_open_files_limit()
    asyncio.run(serve(settings))


def _raise_open_files_limit() -> None:
    """Let Envoy and the simulated servers, which inherit it, open as many connections as this user may."""
    import resource  # noqa: PLC0415 -- does not exist on every system on which this module is imported

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
