"""The picker's life cycle: listeners up, endpoints in, ready; drained and stopped on SIGTERM."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from warmroute._core import Exchange, __version__
from warmroute.config.flags import Flags
from warmroute.config.plan import Plan
from warmroute.config.settings import DECISIONS_KEPT
from warmroute.host.address import UNIX, listen_address
from warmroute.host.base import CertificatePair, ExtProcHost
from warmroute.host.configured import Configured
from warmroute.host.decision_log import DecisionLog
from warmroute.host.grpcio_host import GrpcioHost
from warmroute.host.health import HealthServer
from warmroute.host.native import NativeHost
from warmroute.host.plugin_log import PluginLog
from warmroute.host.refusal_log import RefusalLog
from warmroute.host.reload import ConfigFile, Reloader
from warmroute.host.token_log import TokenLog
from warmroute.logging import DEBUG, fields
from warmroute.metrics.collector import MetricsPage
from warmroute.metrics.families import Family
from warmroute.metrics.pages import routes
from warmroute.metrics.pool import pool_families
from warmroute.metrics.prefix import prefix_families
from warmroute.metrics.server import MetricsServer
from warmroute.recording.configured import start_recording
from warmroute.recording.writer import RecordingWriter
from warmroute.scrape.monitor import ScrapeMonitor

logger = logging.getLogger(__name__)

DEFAULT_POOL = "epp"
# After the drain window, a stream that started in its last instant still gets this long.
_LAST_STREAM_SECONDS = 1.0
_MAINTAIN_SECONDS = 1.0
_RESTART_SECONDS = 1.0
_FIRST_GAUGES_SECONDS = 0.5


class Picker:
    """One endpoint picker: an engine and everything around it."""

    def __init__(self, flags: Flags, plan: Plan, file: ConfigFile | None = None) -> None:
        """Builds the engine; nothing listens yet. `file`: where `plan` comes from. Raises ValueError when the engine refuses the settings."""
        self._flags = flags
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._configured = Configured(flags, plan, self._follow)
        self.engine = self._configured.engine
        self._reloader = Reloader(self._configured, file)
        self._watches_file = file is not None
        self._health = HealthServer()
        self._host: ExtProcHost | None = None
        self._metrics: MetricsServer | None = None
        self._monitor = ScrapeMonitor(self._configured.scraper_states)
        self._pool_gauges: list[Family] = []
        self._refusals = RefusalLog(self.engine)
        self._plugin_failures = PluginLog(self.engine)
        self._tokens = TokenLog(self.engine)
        self._recording: RecordingWriter | None = None
        self._draining = False

    @property
    def ready(self) -> bool:
        """Discovery has delivered, and the picker is not draining."""
        return self.engine.is_synced() and not self._draining

    @property
    def addresses(self) -> dict[str, str]:
        """Where it listens: grpc, health and metrics."""
        return {
            "grpc": self._host.address if self._host is not None else "",
            "health": self._health.address,
            "metrics": self._metrics.address if self._metrics is not None else "",
        }

    async def start(self) -> None:
        """Bring everything up. Raises UsageError, ConfigError, ListenError, CertificateError; what was started is stopped by `stop`."""
        flags = self._flags
        await self._health.start(listen_address(flags.bind_address, flags.grpc_health_port))
        self._configured.start()
        self._recording = start_recording(flags, self.engine, lambda: self._configured.plan.effective)
        self._follow("scrape monitor", self._monitor.run)
        self._compute_pool_gauges()
        self._metrics = self._serve_metrics()
        self._follow("pool gauges", self._refresh_pool_gauges)
        self._follow("maintenance", self._maintain)
        self._follow("refusal log", self._refusals.run)
        self._follow("plugin log", self._plugin_failures.run)
        self._follow("token log", self._tokens.run)
        await self._serve_ext_proc()
        self._follow("configuration", self._reloader.run)
        if self._watches_file:
            self._follow("configuration file", self._reloader.watch)
        if flags.explain and logger.isEnabledFor(logging.DEBUG):
            self._follow("decision log", DecisionLog(self.engine, DECISIONS_KEPT).run)
        elif flags.v >= DEBUG:
            logger.info("one line a request is logged at this verbosity only with --explain")
        await self._health.set_ready(ready=self.ready)
        logger.info("serving", extra=fields(**self.addresses, endpoints=len(self._configured.sink.current)))
        if flags.print_ready:
            sys.stdout.write(json.dumps({"event": "serving", **self.addresses}) + "\n")
            sys.stdout.flush()

    def reload(self) -> None:
        """Read the configuration file again, soon; what comes of it is in the log and on the metrics page."""
        self._reloader.request()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Not ready, still serving: for the whole drain time-out, or until `hurry` is set.

        A gateway that asks for health every ten seconds sends new streams until it has asked, so a moment without one is not the end.
        """
        self._draining = True
        await self._health.set_ready(ready=False)
        if self._host is None:
            return
        clock = asyncio.get_running_loop().time
        started = clock()
        logger.info("draining", extra=fields(streams=self._host.streams(), timeout_seconds=self._flags.drain_timeout))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), self._flags.drain_timeout)
        drained = not self._host.streams()
        clean = await self._host.stop(_LAST_STREAM_SECONDS if drained and not hurry.is_set() else 0.0)
        logger.info("drained" if drained and clean else "stopped with open streams", extra=fields(seconds=round(clock() - started, 3)))

    async def stop(self) -> None:
        """Stop all that is left; safe after a failed `start`."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Those of the last moment, too.
        self._refusals.look()
        self._plugin_failures.look()
        self._tokens.look()
        if self._host is not None and not self._draining:
            await self._host.stop(0.0)
        await self._health.stop()
        if self._recording is not None:
            # After the host: the exchanges that it ended are decisions too.
            await asyncio.to_thread(self._recording.stop)
        await self._configured.stop()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.stop)

    def _serve_metrics(self) -> MetricsServer:
        flags = self._flags
        sources: list[Callable[[], list[Family]]] = [
            lambda: self._pool_gauges,
            self._monitor.families,
            self._reloader.families,
            self._configured.kv_events.families,
        ]
        if self._recording is not None:
            sources.append(self._recording.families)
        page = MetricsPage(self.engine, sources, __version__, deprecated=flags.deprecated_metrics)
        configured, reloader = self._configured, self._reloader
        pages = routes(
            self.engine,
            page,
            plugin_types=lambda: configured.plan.plugin_types,
            scraper_states=configured.scraper_states,
            kv_event_states=configured.kv_events.states,
            config_state=lambda: reloader.state,
            is_ready=lambda: self.ready,
        )
        return MetricsServer(listen_address(flags.bind_address, flags.metrics_port), pages)

    async def _serve_ext_proc(self) -> None:
        flags = self._flags
        # Imported here: a picker behind plain text need not load the cryptography library.
        from warmroute.host.tls import CertificateWatcher, initial_pair  # noqa: PLC0415

        watcher = CertificateWatcher(flags.cert_path) if flags.enable_cert_reload and flags.cert_path is not None else None
        pair = initial_pair(flags.cert_path) if flags.secure_serving else None
        address = listen_address(flags.grpc_address or flags.bind_address, flags.grpc_port)
        flag = "--grpc-address" if address.startswith(UNIX) else "--grpc-port"
        host = self._make_host(address, pair, flag)
        await host.start()
        self._host = host
        if watcher is not None and pair is not None:
            self._follow("certificate", lambda: watcher.follow(pair, host.replace_tls))

    def _make_host(self, address: str, pair: CertificatePair | None, flag: str) -> ExtProcHost:
        flags = self._flags
        if flags.host == "native":
            # TLS 1.0 and 1.1 are spoken by neither host: their names ask for less than there is.
            minimum = flags.tls_min_version if flags.tls_min_version == "VersionTLS13" else ""
            return NativeHost(
                self.engine,
                address,
                tls=pair,
                threads=flags.threads,
                max_message_bytes=flags.grpc_max_recv_msg_size or 0,
                tls_min_version=minimum,
                flag=flag,
            )
        return GrpcioHost(
            lambda: Exchange(self.engine),
            address,
            tls=pair,
            max_receive_bytes=flags.grpc_max_recv_msg_size,
            max_send_bytes=flags.grpc_max_send_msg_size,
            max_body_bytes=flags.max_body,
            health=flags.health_checking,
            flag=flag,
        )

    async def _refresh_pool_gauges(self) -> None:
        interval = self._flags.refresh_prometheus_metrics_interval
        # The first time sooner: the first pages have come by then, and an empty pool is a bad first answer.
        await asyncio.sleep(min(interval, _FIRST_GAUGES_SECONDS))
        while True:
            self._compute_pool_gauges()
            await asyncio.sleep(interval)

    def _compute_pool_gauges(self) -> None:
        pool = self._flags.pool_name or DEFAULT_POOL
        endpoints = self.engine.endpoints()
        self._pool_gauges = [*pool_families(endpoints, pool, self._flags.metrics_staleness_threshold), *prefix_families(endpoints)]

    async def _maintain(self) -> None:
        """The engine follows block sizes and counts that the model servers tell; off the loop, since it may compact the index."""
        while True:
            await asyncio.sleep(_MAINTAIN_SECONDS)
            await asyncio.to_thread(self.engine.maintain)

    def _follow(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        before = self._tasks.get(name)
        if before is not None:
            before.cancel()
        self._tasks[name] = asyncio.create_task(_keep_running(name, work), name=name)


async def _keep_running(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run background work until cancelled. A fault in it is told with its trace and the work starts again: requests must not pay for it."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background work failed; starting it again", extra=fields(work=name))
        await asyncio.sleep(_RESTART_SECONDS)
