"""What runs by the configuration (policy, scraper, discovery, KV events), and how one configuration takes the place of another."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmroute._core import Engine, Scraper
from warmroute.config.errors import UsageError
from warmroute.config.flags import Flags
from warmroute.config.plan import Plan
from warmroute.config.settings import engine_settings, policy_settings, scraper_settings
from warmroute.discovery.endpoints import EndpointSink
from warmroute.discovery.file import FileDiscovery
from warmroute.discovery.static import static_endpoints
from warmroute.kv_events.configured import kv_events_settings
from warmroute.kv_events.following import KvEvents
from warmroute.plugins.running import RunningPlugins

# Runs work in the background until cancelled, in place of earlier work of that name.
Follow = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], None]
_DISCOVERY = "discovery"


@dataclass(frozen=True, slots=True)
class _EndpointsFile:
    """Where endpoints come from, when they come from a file."""

    path: Path
    watch: bool


class Configured:
    """The engine under one configuration at a time."""

    def __init__(self, flags: Flags, plan: Plan, follow: Follow) -> None:
        """Builds the engine; nothing runs yet. Raises ValueError when the engine refuses the settings, UsageError for plugins in Python."""
        self._flags = flags
        self._follow = follow
        self._policy = policy_settings(plan)
        self._scraper_settings: str | None = None
        self._scraper: Scraper | None = None
        self._file: _EndpointsFile | None = None
        self.plan = plan
        self._plugins = RunningPlugins.start(plan.python_plugins, flags.plugin_timeout)
        self.engine = Engine(engine_settings(flags), self._policy, self._plugins.plugins)
        self.sink = EndpointSink(self.engine)
        self.kv_events = KvEvents(self.engine.kv_events())

    def start(self) -> None:
        """The first endpoints into the engine, their metrics and their KV events. Raises UsageError, ConfigError and ValueError."""
        flags = self._flags
        self._file = _endpoints_file(flags, self.plan)
        if self._file is None:
            self.sink.replace(static_endpoints(flags.endpoint, flags.default_namespace))
        else:
            discovery = FileDiscovery(self._file.path, self.sink)
            discovery.load()
            self._follow_endpoints(discovery, watch=self._file.watch)
        settings = scraper_settings(self.plan, flags)
        if settings is not None:
            self._scraper = Scraper(self.engine, settings)
        self._scraper_settings = settings
        self.kv_events.follow(kv_events_settings(self.plan))

    async def replace(self, plan: Plan) -> bool:
        """Run by another plan from now on; False when it asks for nothing else than the one that runs.

        All that can fail is done before anything is swapped. Raises ConfigError, UsageError and ValueError: what ran before goes on.
        """
        policy, settings = policy_settings(plan), scraper_settings(plan, self._flags)
        kv_events = kv_events_settings(plan)
        file = _endpoints_file(self._flags, plan)
        if (policy, settings, file, plan.effective.data) == (self._policy, self._scraper_settings, self._file, self.plan.effective.data):
            self.plan = plan
            return False
        discovery = None
        if file is not None and file != self._file:
            discovery = FileDiscovery(file.path, self.sink)
            await asyncio.to_thread(discovery.read)
        plugins = await asyncio.to_thread(RunningPlugins.start, plan.python_plugins, self._flags.plugin_timeout, self._plugins)
        scraper, old_scraper = self._scraper, None
        if settings != self._scraper_settings:
            old_scraper, scraper = scraper, None if settings is None else Scraper(self.engine, settings)
        before = self.kv_events.settings
        try:
            # Before the policy that needs them: their port may be taken.
            await asyncio.to_thread(self.kv_events.follow, kv_events)
            # Off the loop, on which the grpcio host answers: it may compact the prefix index.
            await asyncio.to_thread(self.engine.reload, policy, plugins.plugins)
        except BaseException:
            if scraper is not None and scraper is not self._scraper:
                scraper.stop()
            await asyncio.to_thread(self.kv_events.follow, before)
            raise
        self.plan, self._policy, self._plugins = plan, policy, plugins
        self._scraper_settings, self._scraper = settings, scraper
        if discovery is not None and file is not None:
            discovery.apply()
            self._follow_endpoints(discovery, watch=file.watch)
        self._file = file
        if old_scraper is not None:
            await asyncio.to_thread(old_scraper.stop)
        return True

    def scraper_states(self) -> list[dict[str, Any]]:
        """What the scraper says of each endpoint's page; empty where no metrics are collected."""
        return [] if self._scraper is None else self._scraper.states()

    async def stop(self) -> None:
        """Stop collecting metrics and KV events."""
        await asyncio.to_thread(self.kv_events.stop)
        if self._scraper is not None:
            await asyncio.to_thread(self._scraper.stop)

    def _follow_endpoints(self, discovery: FileDiscovery, *, watch: bool) -> None:
        self._follow(_DISCOVERY, discovery.watch if watch else _nothing)


async def _nothing() -> None:
    """Background work of an endpoints file that is not watched: it takes the place of a watch that ran before."""
    await asyncio.get_running_loop().create_future()


def _endpoints_file(flags: Flags, plan: Plan) -> _EndpointsFile | None:
    """The file with the endpoints; None: they are on the command line. Raises UsageError when they are nowhere, or in two places."""
    configured = plan.discovery
    if configured is not None:
        if flags.endpoint or flags.endpoints is not None:
            message = "endpoints come from dataLayer.discovery in the configuration; leave --endpoint and --endpoints out"
            raise UsageError(message)
        return _EndpointsFile(Path(configured.path), configured.watch_file)
    if flags.endpoint:
        return None
    if flags.endpoints is None:
        message = (
            "no endpoints: give --endpoint URL (repeatable), --endpoints FILE, or dataLayer.discovery in the configuration; "
            "discovery from Kubernetes by --pool-name is not supported by this version"
        )
        raise UsageError(message)
    return _EndpointsFile(flags.endpoints, watch=True)
