"""Where the gateway tells what happens: JSON lines for programs, a rich console or plain lines for people."""

import json
import os
import sys
import time
from pathlib import Path
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
            self._print(text)

    def event(self, event: str, text: str, **fields: object) -> None:
        """Tell that something happened."""
        if self.print_json:
            self._print(json.dumps({"event": event, "message": text, **fields}))
        elif self.console is not None:
            self.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False, highlight=False)
        else:
            print(f"{time.strftime('%H:%M:%S')} {text}", file=self.errors, flush=True)

    def _print(self, line: str) -> None:
        try:
            print(line, file=self.output, flush=True)
        except BrokenPipeError:
            # The reader has gone (`| head`): requests go on without an audience.
            self.output = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- used until the end
