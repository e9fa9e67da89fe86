"""One sealed segment read alone: what `transformer.reader` says of it among others has to be the same."""

from pathlib import Path

from lake.errors import CorruptSegment
from lake.rows import SegmentRow
from transformer.reader import Read, read_segments


def read_segment(root: Path, row: SegmentRow) -> Read:
    """Raises CorruptSegment where there is nothing to read."""
    ((_, found),) = read_segments(root, [row])
    if isinstance(found, CorruptSegment):
        raise found
    return found
