"""KV events under one configuration at a time."""

from typing import TYPE_CHECKING, Any

from warmroute.kv_events.settings import KvEventsError, KvEventsSettings
from warmroute.kv_events.sink import EventSink
from warmroute.metrics.families import PREFIX, Family, Sample

if TYPE_CHECKING:
    from warmroute.kv_events.subscriber import KvEventsSubscriber


class KvEvents:
    """What a picker has of all this: a subscriber as the configuration in force asks for it, or none."""

    def __init__(self, sink: EventSink) -> None:
        """Nothing runs before `follow`."""
        self._sink = sink
        self._subscriber: KvEventsSubscriber | None = None
        self._restarts = self._strangers = 0

    @property
    def settings(self) -> KvEventsSettings | None:
        """Those in force."""
        return None if self._subscriber is None else self._subscriber.settings

    def follow(self, settings: KvEventsSettings | None) -> None:
        """Run by these settings from now on; None: not at all. Blocks while threads end.

        Raises:
            KvEventsError: an address cannot be used; what ran before goes on.
        """
        before = self.settings
        if before == settings:
            return
        # First: the new one may want the same port.
        self.stop()
        if settings is None:
            return
        try:
            self._start(settings)
        except KvEventsError:
            if before is not None:
                self._start(before)
            raise

    def stop(self) -> None:
        """Receive no more."""
        if self._subscriber is not None:
            self._subscriber.stop()
            restarts, strangers = self._subscriber.counts()
            self._restarts += restarts
            self._strangers += strangers
            self._subscriber = None

    def states(self) -> list[dict[str, Any]]:
        """`/debug/kv-events`: one row a publisher."""
        return [] if self._subscriber is None else self._subscriber.states()

    def families(self) -> list[Family]:
        """The counters that no endpoint has a part in."""
        restarts, strangers = (0, 0) if self._subscriber is None else self._subscriber.counts()
        counters = (
            ("thread_restarts", "times that the thread receiving KV events failed and was started again", self._restarts + restarts),
            (
                "unknown_publisher_messages",
                "KV event messages at the shared socket whose topic named no endpoint of the pool",
                self._strangers + strangers,
            ),
        )
        return [
            Family(f"{PREFIX}kv_cache_events_{name}_total", "counter", f"[ALPHA] The number of {what}.", (), [Sample((), float(count))])
            for name, what, count in counters
        ]

    def _start(self, settings: KvEventsSettings) -> None:
        # Here: a picker that receives none need not load ZMQ.
        from warmroute.kv_events.subscriber import KvEventsSubscriber  # noqa: PLC0415

        subscriber = KvEventsSubscriber(settings, self._sink)
        subscriber.start()
        self._subscriber = subscriber
