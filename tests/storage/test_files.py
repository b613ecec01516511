import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.parts import write_part
from galaxy_batch.errors import InputError
from galaxy_batch.rows import CHUNK
from galaxy_batch.storage import files as storage
from galaxy_batch.storage import retries
from galaxy_batch.storage.retries import TRIES
from tests.support.s3_server import S3


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "WAIT_GROWTH", 1.0)


def test_writes_are_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = str(tmp_path / "a" / "b.bin")
    storage.write_atomically(target, b"first")
    storage.write_atomically(target, b"second")
    assert storage.read_bytes(target) == b"second"

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomically(target, b"third")
    assert storage.read_bytes(target) == b"second"
    assert storage.list_names(str(tmp_path / "a")) == ["b.bin"]
    assert os.listdir(tmp_path / "a") == ["b.bin"]


def test_unfinished_writes_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-part-000001.parquet-x").write_bytes(b"half")
    (tmp_path / "part-000000.parquet").write_bytes(b"whole")
    assert storage.list_names(str(tmp_path)) == ["part-000000.parquet"]
    assert storage.list_names(str(tmp_path / "nowhere")) == []


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "there/a/b", "c/d"):
        storage.check_writable(str(tmp_path / folder))
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match=r"output_uri = '.*/f': cannot be written: .*(Not a directory|File exists)"):
        storage.check_writable(str(tmp_path / "f"))


def test_removing_a_missing_folder_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    storage.remove_tree(str(tmp_path / "x"))
    storage.remove_tree(str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_join() -> None:
    assert storage.join("s3://b/x/", "y", "z") == "s3://b/x/y/z"


@pytest.mark.parametrize("scheme", ["file://", "memory:/", "s3"])
def test_write_list_read_and_remove_on_every_store(scheme: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("s3").uri + "/a b" if scheme == "s3" else f"{scheme}{tmp_path}"
    assert storage.list_names(storage.join(folder, "x")) == []
    storage.write_atomically(storage.join(folder, "x", "b.bin"), b"content")
    storage.write_atomically(storage.join(folder, "x", "a.bin"), b"")
    storage.write_atomically(storage.join(folder, "x", ".tmp-c"), b"never finished")
    storage.write_atomically(storage.join(folder, "x", "y", "d.bin"), b"deeper")
    assert storage.list_names(storage.join(folder, "x")) == ["a.bin", "b.bin"]
    assert storage.read_bytes(storage.join(folder, "x", "b.bin")) == b"content"
    assert storage.read_bytes(storage.join(folder, "x", "a.bin")) == b""
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(folder, "x", "none"))
    storage.remove_tree(storage.join(folder, "x", "b.bin"))
    assert storage.list_names(storage.join(folder, "x")) == ["a.bin"]
    assert storage.list_folders(folder) == ["x"]
    assert storage.list_folders(storage.join(folder, "x")) == ["y"]
    assert storage.list_folders(storage.join(folder, "none")) == []
    storage.remove_tree(storage.join(folder, "x"))
    storage.remove_tree(storage.join(folder, "x"))
    assert storage.list_names(storage.join(folder, "x")) == []
    storage.check_writable(folder)


def test_a_part_costs_one_put_request(s3: S3) -> None:
    rows = pa.table({"object_id": [1, 2], "predicted_class": ["smooth", None], "needs_review": [False, True]})
    rows = rows.append_column(CHUNK, pa.array([7, 7], pa.int32())).append_column(
        "status", pa.array(["ok", "unreadable"])
    )
    schema = pa.schema([rows.schema.field("predicted_class"), rows.schema.field("needs_review")])
    write_part(rows, f"{s3.uri}/parts", schema, "dr1", "model")
    (request,) = s3.proxy.requests
    assert (request.method, request.path) == ("PUT", f"/{s3.bucket}/parts/part-000007.parquet")
    assert s3.names() == ["parts/part-000007.parquet"]


def test_a_file_costs_one_get_request(s3: S3) -> None:
    uri = s3.put("model.safetensors", b"x" * 100_000)
    assert len(storage.read_bytes(uri)) == 100_000
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{s3.uri}/none")
    assert s3.proxy.asked() == ["GET", "GET"]


def test_only_the_needed_parts_of_a_parquet_file_are_fetched(s3: S3) -> None:
    images = [os.urandom(5_000) for _ in range(400)]
    table = pa.table({"object_id": range(400), "image": images, "ra": [0.5] * 400})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100, compression="none")
    uri = s3.put("packed.parquet", sink.getvalue().to_pybytes())

    def fetched() -> int:
        ranges = [r.range.removeprefix("bytes=").split("-") for r in s3.proxy.requests if r.range]
        return sum(int(last) - int(first) + 1 for first, last in ranges)

    with storage.open_parquet(uri) as parquet:
        groups = [parquet.read_row_group(group, ["object_id", "ra"]) for group in range(4)]
        assert pa.concat_tables(groups)["object_id"].to_pylist() == list(range(400))
        assert fetched() < 100_000, "the footer, requested with 64 kB, and the two columns"
        assert parquet.read_row_groups([1, 2])["image"].to_pylist() == images[100:300]
    assert fetched() < 1_150_000
    assert s3.proxy.asked("packed").count("GET") <= 10


def test_listings_are_not_cached(s3: S3) -> None:
    s3.put("parts/part-000000.parquet", b"x")
    assert storage.list_names(f"{s3.uri}/parts") == ["part-000000.parquet"]
    s3.put("parts/part-000001.parquet", b"x")
    assert storage.list_names(f"{s3.uri}/parts") == ["part-000000.parquet", "part-000001.parquet"]


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "504", "reset", "truncated"])
def test_reads_and_writes_are_retried(s3: S3, impatient: None, fault: str) -> None:
    uri = s3.put("model.bin", b"a whole checkpoint")
    s3.proxy.fail("model.bin", fault, times=2)
    assert storage.read_bytes(uri) == b"a whole checkpoint"
    assert len(s3.proxy.asked()) == 3
    s3.proxy.forget()
    fault = "lost" if fault == "truncated" else fault
    s3.proxy.fail("part.bin", fault, times=2, method="PUT")
    storage.write_atomically(f"{s3.uri}/part.bin", b"a whole part")
    assert s3.get("part.bin") == b"a whole part"
    assert s3.proxy.asked() == ["PUT"] * 3


def test_the_number_of_attempts_is_limited(s3: S3, impatient: None) -> None:
    uri = s3.put("x.bin", b"half of this is not enough")
    for fault in ("503", "truncated"):
        s3.proxy.forget()
        s3.proxy.fail("x.bin", fault, times=float("inf"))
        with pytest.raises(Exception, match=r"a fault of the test|payload is not completed"):
            storage.read_bytes(uri)
        assert len(s3.proxy.asked()) == TRIES
    s3.proxy.fail("y.bin", "503", times=float("inf"), method="PUT")
    with pytest.raises(OSError, match="a fault of the test"):
        storage.write_atomically(f"{s3.uri}/y.bin", b"x")
    assert len(s3.proxy.asked("y.bin")) == TRIES
    assert "y.bin" not in s3.names()


def test_denied_access_is_not_retried(s3: S3) -> None:
    s3.proxy.fail("", "403", times=2, method=None)
    with pytest.raises(PermissionError):
        storage.read_bytes(f"{s3.uri}/x.bin")
    with pytest.raises(PermissionError):
        storage.write_atomically(f"{s3.uri}/x.bin", b"x")
    assert s3.proxy.asked() == ["GET", "PUT"]


def test_columns_of_large_row_groups_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [os.urandom(2000) for _ in range(5000)]
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet", compression="none")
    monkeypatch.setattr(storage, "_LARGE_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(storage, "_PIECE_BYTES", 1 << 16)

    def bytes_held(in_pieces: bool) -> int:
        tracemalloc.start()
        with storage.open_parquet(str(tmp_path / "t.parquet"), in_pieces) as parquet:
            batches = [next(parquet.iter_batches(100))]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            batches = list(parquet.iter_batches(100))
        assert [image for batch in batches for image in batch["image"].to_pylist()] == images
        return peak

    assert bytes_held(in_pieces=True) < 5_000_000 < 10_000_000 <= bytes_held(in_pieces=False)


@pytest.mark.parametrize("catalog", ["s3://b/x/catalog", "s3://b/x/catalog/"])
def test_beside_and_outside_a_catalog(catalog: str) -> None:
    assert storage.beside(catalog, "audit", "first") == "s3://b/x/audit/first"
    storage.check_outside("report_uri", "s3://b/x/catalogs", catalog)
    for inside in ("s3://b/x/catalog", "s3://b/x/catalog/report"):
        with pytest.raises(InputError, match="inside the catalog's folder"):
            storage.check_outside("report_uri", inside, catalog)


def test_a_folder_is_inside_a_catalog_also_through_links_and_dots(tmp_path: Path) -> None:
    catalog, link = tmp_path / "release" / "catalog", tmp_path / "link"
    catalog.mkdir(parents=True)
    link.symlink_to(catalog)
    storage.check_outside("report_uri", f"{link}/../catalog", str(tmp_path / "catalog"))
    for inside in (
        f"{link}/page",
        f"{catalog}/../catalog/page",
        f"file://{catalog}/page",
        f"{catalog.parent}/x/../catalog",
    ):
        with pytest.raises(InputError, match="inside the catalog's folder"):
            storage.check_outside("report_uri", inside, str(catalog))
