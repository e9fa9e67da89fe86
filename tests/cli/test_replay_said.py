"""What `dl replay` says of a recording that was not taken whole."""

from types import SimpleNamespace

from cli.commands.replay import _say
from collectors.replay import Summary


def test_what_was_left_out_of_a_recording_is_named(capsys):
    done = Summary(files=1, covered={"book_delta": 20}, not_taken=["BTCUSDT [10:00 to 10:01]: 20 updates"])
    compacted = SimpleNamespace(days=0, files=0, certificates=[], failures=[])
    _say(done, SimpleNamespace(rows=0), compacted)
    said = " ".join(capsys.readouterr().out.split())
    assert "left out (the lake has that time, and no id tells what is the same): book_delta 20" in said
    assert "not taken: BTCUSDT [10:00 to 10:01]: 20 updates" in said
