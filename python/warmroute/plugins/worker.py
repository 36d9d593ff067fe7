"""The thread of a plugin: takes the engine's questions one by one and calls the function."""

import atexit
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from warmroute._core import PluginQuestion, PluginWork
from warmroute.plugins.answer import BadAnswerError

_MOST_TEXT = 2000
# Of the innermost frames, two lines each.
_TRACE_FRAMES = 4
# Python goes away after this; a thread that is stuck in a plugin then ends as daemon threads do.
_LAST_SECONDS = 0.5

_running: "weakref.WeakKeyDictionary[threading.Thread, PluginWork]" = weakref.WeakKeyDictionary()


def start(name: str, work: PluginWork, call: Callable[[PluginQuestion], Any]) -> threading.Thread:
    """Answer the questions of `work` by `call` in a thread, until nobody can ask any more."""
    thread = threading.Thread(target=_serve, args=(work, call), name=f"plugin {name}", daemon=True)
    _running[thread] = work
    thread.start()
    return thread


def _serve(work: PluginWork, call: Callable[[PluginQuestion], Any]) -> None:
    # A loop in Python and not in Rust: a thread that Python ends at its exit may only have Python's own frames on its stack.
    answer = raised = bad_result = None
    try:
        while (question := work.next(answer, raised, bad_result)) is not None:
            answer = raised = bad_result = None
            try:
                answer = call(question)
            except BadAnswerError as error:
                bad_result = _text(str(error))
            except BaseException as error:  # noqa: BLE001 -- whatever a plugin raises, also SystemExit, ends this call and nothing else
                raised = _describe(error)
            # Not kept while waiting for the next one.
            question = None
    finally:
        work.close()


def _describe(error: BaseException) -> str:
    """The exception in a line, then the last lines of its trace."""
    head = "".join(traceback.format_exception_only(error)).strip()
    # Without the frame above: it is the same for all. Few frames: of a recursion without end there are a thousand, and each is looked up in its file.
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    trace = "".join(traceback.format_tb(frames, limit=-_TRACE_FRAMES)).splitlines()
    return _text("\n".join([head[:_MOST_TEXT], *trace]))


def _text(text: str) -> str:
    """As much as a log line takes. What is no Unicode text (half a surrogate pair, as in a file name that is no UTF-8) the engine cannot take over."""
    return text[:_MOST_TEXT].encode(errors="backslashreplace").decode()


@atexit.register
def _end_all() -> None:
    """Threads that wait in the engine return before Python is gone."""
    deadline = time.monotonic() + _LAST_SECONDS
    running = list(_running.items())
    for _, work in running:
        work.close()
    for thread, _ in running:
        thread.join(max(0.0, deadline - time.monotonic()))
