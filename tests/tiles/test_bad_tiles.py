import pytest

from galaxy_batch.tiles.bad_tiles import bad_tiles


def test_the_worst_tiles_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    failures = {("unreadable", f"red band of t{n:03d}.fits: truncated"): 1000 + n for n in range(103)}
    others = {("missing", "outside every tile"): 9, ("crashed", "killed"): 2}
    named = bad_tiles({**failures, **others})
    assert len(named) == 100
    assert named[0] == {"status": "unreadable", "error": "red band of t102.fits: truncated", "objects": 1102}
    messages = [record.message for record in caplog.records]
    assert messages[0] == "1,102 objects are unreadable: red band of t102.fits: truncated"
    assert messages[100:] == ["3,003 objects of 3 further bad tiles"]
    assert bad_tiles(others) == []
