from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.objects import known_objects, typed_id, unknown_reason
from galaxy_batch.verdicts.records import Problem, UnusableRecord
from tests.support.skies import publish_rows, sky_rows


@pytest.mark.parametrize("text", ["1237648720693755918", "-5", "9223372036854775807", "007"])
def test_integers_are_exact(text: str) -> None:
    assert typed_id(text, integers=True) == int(text)
    assert typed_id(text, integers=False) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1.23765E+18", Problem.DAMAGED_ID),
        ("1,23765E+18", Problem.DAMAGED_ID),
        ("1E+18", Problem.DAMAGED_ID),
        ("1237648720693755904.0", Problem.DAMAGED_ID),
        ("J1237", Problem.UNKNOWN_OBJECT),
        ("", Problem.UNKNOWN_OBJECT),
        ("9223372036854775808", Problem.UNKNOWN_OBJECT),
        ("²", Problem.UNKNOWN_OBJECT),
    ],
)
def test_what_is_no_id(text: str, problem: Problem) -> None:
    with pytest.raises(UnusableRecord) as raised:
        typed_id(text, integers=True)
    assert raised.value.problem == problem
    assert ("spreadsheets" in raised.value.reason) == (problem == Problem.DAMAGED_ID)


def test_unknown_objects() -> None:
    assert "has rounded the id" in unknown_reason(1237648720693755904).reason
    assert "rounded" not in unknown_reason(1237648720693755918).reason
    assert unknown_reason("1.2E+18").problem == Problem.DAMAGED_ID
    assert unknown_reason("J1").problem == Problem.UNKNOWN_OBJECT


@pytest.mark.parametrize("text_ids", [False, True])
def test_objects_of_a_catalog_of_several_files(tmp_path: Path, text_ids: bool) -> None:
    rows = sky_rows(900, seed=4, text_ids=text_ids, without_position=0.1)
    catalog = publish_rows(tmp_path, rows, max_rows=100)
    some = rows["object_id"].take(pa.array(range(0, 900, 7))).to_pylist()
    others = [f"{one}x" for one in some] if text_ids else [one + 1 for one in some]
    manifest = require_manifest(str(catalog))
    assert len(manifest.files) > 8
    assert known_objects(str(catalog), manifest, [*others, *some, *some]) == set(some)
    assert known_objects(str(catalog), manifest, []) == set()
    (catalog / manifest.files[-1].path).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged, verify the catalog"):
        known_objects(str(catalog), manifest, others)
