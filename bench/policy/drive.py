"""Sends the sessions of a schedule at their times and notes what became of each request."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import uvloop

from policy.answers import Answer, AnswerError, Segment, first_token
from policy.client import Client, chat, completion
from policy.workloads import Session

_MESSAGES = "/v1/chat/completions"
_PROMPT = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Times in seconds from the beginning of the run."""

    due: float
    """When it was to be sent: what it waited for from then on counts, also if this client was late."""
    sent: float
    ended: float
    answer: Answer | None
    """None: an error, or not answered when the run was over."""
    first_token: float | None = None
    """None: it had not come. An answer that is under way has one."""
    last_token: float = 0.0
    error: str = ""
    """Kind of the error; empty with an answer, and for one that was still under way at the end."""


# A body that is ready to be sent, or the conversation that it is made of when its turn comes.
Prepared: TypeAlias = "list[tuple[Session, bytes | None]]"


def prepare(sessions: Sequence[Session], model: str) -> Prepared:
    """Make the bodies that are known before the run: what takes time shall not take it from the run."""
    return [(session, None if session.system else completion(model, session.turns[0].text, session.turns[0].output_tokens)) for session in sessions]


def drive(host: str, port: int, model: str, prepared: Prepared, *, seconds: float, drain: float) -> list[Record]:
    """Run a schedule; turns that would begin after `seconds` are not sent, and what has not ended `drain` seconds later is cut off."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Drive(host, port, model, seconds).run(prepared, drain))


class _Drive:
    def __init__(self, host: str, port: int, model: str, seconds: float) -> None:
        self._client = Client(host, port)
        self._model = model
        self._seconds = seconds
        self._records: list[Record] = []
        self._begin = 0.0

    async def run(self, prepared: Prepared, drain: float) -> list[Record]:
        loop = asyncio.get_running_loop()
        # A moment to make the tasks before the first arrival.
        self._begin = loop.time() + 0.1
        tasks = [loop.create_task(self._session(session, body)) for session, body in prepared]
        try:
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=self._seconds + drain + 0.1)
                for task in late:
                    task.cancel()
                # Raises what a task raised, which is no part of a run.
                await asyncio.gather(*(task for task in tasks if task not in late))
                await asyncio.gather(*late, return_exceptions=True)
        finally:
            self._client.close()
        return sorted(self._records, key=lambda record: record.due)

    async def _session(self, session: Session, body: bytes | None) -> None:
        messages = [{"role": "system", "content": session.system}]
        due = session.start
        for turn in session.turns:
            due += turn.pause
            if due >= self._seconds:
                return
            await asyncio.sleep(self._begin + due - asyncio.get_running_loop().time())
            if body is not None:
                answer = await self._ask(due, _PROMPT, body)
            else:
                messages.append({"role": "user", "content": turn.text})
                answer = await self._ask(due, _MESSAGES, chat(self._model, messages, turn.output_tokens))
            if answer is None:
                return
            messages.append({"role": "assistant", "content": answer.text})
            due = self._now()

    async def _ask(self, due: float, path: str, body: bytes) -> Answer | None:
        sent = self._now()
        segments: list[Segment] = []
        try:
            answer = await self._client.ask(path, body, segments)
        except AnswerError as error:
            self._records.append(Record(due, sent, self._now(), None, error=error.kind))
            return None
        except json.JSONDecodeError:
            self._records.append(Record(due, sent, self._now(), None, error="no JSON"))
            return None
        except asyncio.CancelledError:
            first = first_token(segments)
            self._records.append(Record(due, sent, self._now(), None, None if first is None else first - self._begin))
            raise
        first, last = answer.first_token - self._begin, answer.last_token - self._begin
        self._records.append(Record(due, sent, self._now(), answer, first, last))
        return answer

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begin
