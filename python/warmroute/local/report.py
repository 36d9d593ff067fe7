"""Where the gateway tells what happens: JSON lines for programs, a rich console or plain lines for people."""

import json
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


class Reporter:
    """Prints events once, in the form that was asked for."""

    def __init__(self, *, print_json: bool, output: TextIO | None = None, errors: TextIO | None = None) -> None:
        """With `print_json` every event is one JSON line on `output`; people read `output` (results) and `errors` (news)."""
        self.print_json = print_json
        self.output = output or sys.stdout
        self.errors = errors or sys.stderr
        #: Set while a live view owns the terminal: lines go above it.
        self.console: Console | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches: a live view is of use."""
        return not self.print_json and self.output.isatty()

    def text(self, text: str) -> None:
        """Print a result for people; nothing in JSON mode."""
        if self.print_json:
            return
        if self.console is not None:
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.output, flush=True)

    def event(self, event: str, text: str, **fields: object) -> None:
        """Tell that something happened."""
        if self.print_json:
            print(json.dumps({"event": event, "message": text, **fields}), file=self.output, flush=True)
        elif self.console is not None:
            self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=self.errors, flush=True)
