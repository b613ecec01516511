from pathlib import Path

import pyarrow as pa

from galaxy_batch.cutouts.fetch import fetch_cutouts, hash_image


def test_every_row_is_kept_with_a_status(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"aaa")
    (tmp_path / "big.jpg").write_bytes(b"b" * 2000)
    (tmp_path / "empty.jpg").write_bytes(b"")
    uris = [f"{tmp_path}/a.jpg", f"{tmp_path}/none.jpg", None, f"{tmp_path}/big.jpg", f"{tmp_path}/empty.jpg"]
    rows = fetch_cutouts(pa.table({"object_id": range(5), "_image_uri": uris}), max_bytes=1999)
    assert rows["object_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert rows["status"].to_pylist() == ["ok", "missing", "refused", "too_large", "ok"]
    assert rows["_image_bytes"].to_pylist() == [b"aaa", None, None, None, b""]
    assert rows["image_hash"].to_pylist() == [hash_image(b"aaa"), None, None, None, hash_image(b"")]
    assert [e is None for e in rows["error"].to_pylist()] == [True, False, False, False, True]
    assert "_image_uri" not in rows.column_names


def test_images_in_the_manifest_are_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"fetched")
    rows = pa.table(
        {
            "_image_bytes": pa.array([b"given", None, None], pa.large_binary()),
            "_image_uri": [None, f"{tmp_path}/b.jpg", None],
        }
    )
    fetched = fetch_cutouts(rows, 100)
    assert fetched["_image_bytes"].to_pylist() == [b"given", b"fetched", None]
    assert fetch_cutouts(rows.drop_columns(["_image_uri"]), 100)["status"].to_pylist() == ["ok", "missing", "missing"]


def test_a_store_that_cannot_be_opened_is_a_status_not_an_error(tmp_path: Path) -> None:
    rows = fetch_cutouts(pa.table({"_image_uri": ["nosuchscheme://x/y"]}), 100)
    assert rows["status"].to_pylist() == ["unreachable"]


def test_hashes_are_64_bit_and_stable() -> None:
    assert hash_image(b"") == int.from_bytes(bytes.fromhex("e4a6a0577479b2b4"), "big", signed=True)
    assert -(2**63) <= hash_image(b"galaxy") < 2**63
