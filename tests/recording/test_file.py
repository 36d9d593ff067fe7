"""The file of a recording, by itself."""

import pytest

from warmroute.recording.file import RecordingFile, RecordingFileError


def test_two_that_begin_at_the_same_moment_do_not_share_a_file(tmp_path):
    path = tmp_path / "recorded.jsonl"
    first = RecordingFile(path, 1 << 20)
    with pytest.raises(RecordingFileError, match="another process records to this file"):
        RecordingFile(path, 1 << 20)
    first.clear()
    second = RecordingFile(path, 1 << 20)
    second.append("{}\n")
    second.close({"reason": "stopped"})
    assert path.read_text().startswith("{}\n")
    with pytest.raises(RecordingFileError, match="is not empty"):
        RecordingFile(path, 1 << 20)
