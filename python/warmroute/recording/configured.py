"""The recording that the flags ask for."""

import logging
from collections.abc import Callable

from warmroute._core import Engine
from warmroute.config.effective import Effective
from warmroute.config.errors import UsageError
from warmroute.config.flags import Flags
from warmroute.logging import fields
from warmroute.recording.file import RecordingFileError
from warmroute.recording.writer import RecordingWriter

logger = logging.getLogger(__name__)


def start_recording(flags: Flags, engine: Engine, effective: Callable[[], Effective]) -> RecordingWriter | None:
    """Start to write, where that is asked for. Raises UsageError when the file cannot be used, unless the flags say to serve all the same."""
    if flags.record_decisions is None:
        return None
    try:
        writer = RecordingWriter(engine, flags.record_decisions, flags.record_max_bytes, effective)
    except RecordingFileError as error:
        engine.stop_recording()
        if not flags.record_optional:
            raise UsageError(str(error)) from error
        logger.warning("no decisions are recorded", extra=fields(file=str(flags.record_decisions), problem=str(error)))
        return None
    writer.start()
    details = fields(file=str(flags.record_decisions), sample=flags.record_sample, max_bytes=flags.record_max_bytes)
    logger.info("decisions are recorded: block hashes, lengths and loads, no text of prompts", extra=details)
    return writer
