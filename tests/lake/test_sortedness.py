"""Whether rows come in order, however many columns it takes to say so."""

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lake.sortedness import unsorted

rows = st.lists(
    st.tuples(st.sampled_from(["A", "B", "É", None]), st.sampled_from([None, 0, 2, 10]), st.sampled_from(["", "x"])),
    max_size=5,
)


def table(made):
    """Names as dictionaries, a part each, as pieces of several files are."""
    chunks = [pa.array([row[0]], pa.string()).dictionary_encode() for row in made]
    names = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))
    times = pa.array([row[1] for row in made], pa.timestamp("us", "UTC"))
    return pa.table({"symbol": names, "at": times, "text": pa.array([row[2] for row in made], pa.string())})


@settings(max_examples=150, deadline=None)
@given(rows)
@example([("A", 1, "x"), ("B", 0, "x")])
@example([("A", 0, "x"), ("B", 0, ""), ("B", 0, "x")])
@example([("A", 10, ""), ("B", 2, ""), ("B", 10, "")])
@example([("A", None, "x"), ("A", 0, "")])
@example([("É", 0, ""), ("A", 0, "")])
def test_it_is_told_as_sorting_would_tell_it(made):
    keys = [tuple((v is not None, v.encode() if isinstance(v, str) else v or 0) for v in row) for row in made]
    assert unsorted(table(made), ["symbol", "at", "text"]) == (keys != sorted(keys))
