"""Decisions of a live gateway in a file, and what another policy would have made of them."""

from warmroute.recording.counterfactual import compare, report
from warmroute.recording.reader import Recording, RecordingError, is_recording, read_recording, sampled
from warmroute.recording.trace import RecordedTrace, as_trace

__all__ = ["RecordedTrace", "Recording", "RecordingError", "as_trace", "compare", "is_recording", "read_recording", "report", "sampled"]
