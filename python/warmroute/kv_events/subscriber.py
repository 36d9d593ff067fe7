"""The thread that receives KV events, from `start` to `stop`."""

import logging
import threading
from typing import Any

from warmroute.kv_events.session import Session
from warmroute.kv_events.settings import KvEventsSettings
from warmroute.kv_events.sink import EventSink
from warmroute.logging import fields

logger = logging.getLogger(__name__)

# After a fault everything is opened anew, so long after it.
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 10.0


class KvEventsSubscriber:
    """Receives KV events into the engine, on one thread of its own."""

    def __init__(self, settings: KvEventsSettings, sink: EventSink) -> None:
        """Nothing is open before `start`."""
        self.settings = settings
        self._sink = sink
        self._session: Session | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.restarts = 0
        #: Messages at the shared socket, of sessions that ended, that no endpoint of the pool had sent.
        self.strangers = 0

    def counts(self) -> tuple[int, int]:
        """How often the thread was started again, and messages at the shared socket that no endpoint of the pool had sent."""
        session = self._session
        return self.restarts, self.strangers + (0 if session is None else session.strangers)

    def start(self) -> None:
        """Open the sockets and receive.

        Raises:
            KvEventsError: an address cannot be used.
        """
        self._session = Session(self.settings, self._sink)
        self._thread = threading.Thread(target=self._run, args=(self._session,), name="kv-events", daemon=True)
        self._thread.start()
        settings = self.settings
        details = fields(
            discover=settings.discover, template=settings.template if settings.discover else "", bind=self.address, topic_filter=settings.topic_filter
        )
        logger.info("receiving KV events", extra=details)

    @property
    def address(self) -> str:
        """Where engines connect to, with the real port; empty where they do not."""
        session = self._session
        return "" if session is None else session.address

    def states(self) -> list[dict[str, Any]]:
        """One row a publisher: endpoint, rank, address, replay_address, connected, messages, replays, replayed_messages, replaying."""
        session = self._session
        return [] if session is None else list(session.states)

    def stop(self) -> None:
        """Close everything; blocks until it is done."""
        self._stopping.set()
        session = self._session
        if session is not None:
            session.wake()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            if self._thread.is_alive():
                logger.error("the thread of the KV events does not end")

    def _run(self, session: Session | None) -> None:
        while True:
            if session is not None:
                self._receive(session)
            if self._stopping.wait(_RESTART_SECONDS):
                return
            try:
                session = Session(self.settings, self._sink)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is tried again
                session = None
                logger.error("KV events cannot be received; trying again", extra=fields(error=str(error)))  # noqa: TRY400 -- once a second
            self._session = session

    def _receive(self, session: Session) -> None:
        try:
            session.run(self._stopping)
        except BaseException:
            self.restarts += 1
            logger.exception("receiving KV events failed; starting again with nothing known of the endpoints' caches")
        self._session = None
        self.strangers += session.strangers
        try:
            session.close()
        except Exception:
            # Whatever could not be closed is left behind; what runs next is what counts.
            logger.exception("the sockets of the KV events could not be closed")
