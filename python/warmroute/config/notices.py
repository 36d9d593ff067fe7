"""What a configuration says in an old way, or to no effect: read as it is, and told once."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from warmroute.config.document import Document, Path
from warmroute.logging import fields

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """One such thing: where it stands (`source:line: field`), what was written, and what to write instead."""

    summary: str
    place: str
    written: str
    instead: str

    @classmethod
    def deprecated(cls, document: Document, path: Path, written: str, instead: str) -> "Notice":
        """Something that is still read and will not always be."""
        return cls("deprecated", _place(document, path), written, instead)

    @classmethod
    def without_effect(cls, document: Document, path: Path, written: str, instead: str) -> "Notice":
        """Something that nothing reads, in the reference neither."""
        return cls("has no effect", _place(document, path), written, instead)

    @classmethod
    def leads_nowhere(cls, document: Document, path: Path, written: str, instead: str) -> "Notice":
        """A name that is allowed and that nothing has."""
        return cls("leads nowhere", _place(document, path), written, instead)

    @classmethod
    def differs(cls, document: Document, path: Path, written: str, instead: str) -> "Notice":
        """Something that means another thing to the reference."""
        return cls("differs from the reference", _place(document, path), written, instead)

    @classmethod
    def approximate(cls, document: Document, path: Path, written: str, instead: str) -> "Notice":
        """Something exact that can only guess, as it lacks what it needs."""
        return cls("works approximately", _place(document, path), written, instead)

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.place}: {self.written} {'is ' if self.summary == 'deprecated' else ''}{self.summary}; {self.instead_text}"

    def is_told_by(self, others: Iterable["Notice"]) -> bool:
        """Whether one of them says the same, perhaps of another line: a file that got a line more has no news in it."""
        return any((other.summary, other.written, other.instead) == (self.summary, self.written, self.instead) for other in others)

    @property
    def instead_text(self) -> str:
        """What to do about it."""
        return f"write {self.instead}" if self.summary == "deprecated" else self.instead


def _place(document: Document, path: Path) -> str:
    problem = document.problem(path, "")
    line = "" if problem.line is None else f":{problem.line}"
    return f"{document.source}{line}: {problem.field}"


def log_notices(notices: Iterable[Notice]) -> None:
    """Log each once."""
    for notice in dict.fromkeys(notices):
        logger.warning("configuration: %s", notice.summary, extra=fields(where=notice.place, given=notice.written, use=notice.instead))
